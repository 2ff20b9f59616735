"""The arrays behind the report's pictures."""

import numpy as np
import pytest
import torch
from conftest import tiny
from matplotlib.figure import Figure
from matplotlib.text import Text

from aebench.config import Corruption
from aebench.data.datasets import Splits
from aebench.evaluation.context import encode
from aebench.evaluation.pictures import MAPPED, REACH, STEPS, neighbourhoods, pictures
from aebench.reporting import figures

CONCAT = {"conditioning": "concat"}
CORRUPTION = Corruption(corruption="masking", corruption_rate=0.3)


@pytest.mark.parametrize(("kind", "settings"), [("ae", {}), ("vae", {}), ("cvae", {}), ("cvae", CONCAT)])
def test_interpolations_go_from_one_image_to_the_next_and_traversals_move_one_dimension(
    kind: str, settings: dict[str, str], digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aebench.evaluation.pictures.inferred_label", lambda _, x: torch.arange(len(x)))
    model = tiny(kind, **settings).eval().requires_grad_(False)
    codes = encode(model, digits.test)
    errors = np.arange(len(codes), 0, -1.0)
    found = pictures(model, digits, CORRUPTION, 0, codes, errors)
    assert found["interpolations"].shape == (5, STEPS, 1, 8, 8)
    x = torch.from_numpy(found["originals"]).flatten(1)
    y = torch.arange(10) if model.conditional_parts else None
    ends = model.decode(model.encode(x, y), y).view(10, 1, 8, 8).numpy()
    np.testing.assert_allclose(found["interpolations"][:, 0], ends[0::2], atol=1e-5)
    np.testing.assert_allclose(found["interpolations"][:, -1], ends[1::2], atol=1e-5)

    order = np.argsort(-codes.var(axis=0))
    assert found["traversed"].tolist() == order[:6].tolist()
    label = None if y is None else y[:1]
    z = model.encode(x[:1], label)
    z[:, order[1]] = float(codes.mean(axis=0)[order[1]] + REACH * codes.std(axis=0)[order[1]])
    expected = model.decode(z, label).numpy()
    np.testing.assert_allclose(found["traversal"][1, -1].reshape(1, -1), expected, atol=1e-5)

    # The errors given fall from the first image to the last.
    best, worst = found["best"], found["worst"]
    assert best.shape == worst.shape == (2, 10, 1, 8, 8)
    pixels = digits.test.pixels(slice(None)).numpy().reshape(-1, 1, 8, 8)
    assert np.array_equal(best[0], pixels[::-1][:10])
    assert np.array_equal(worst[0], pixels[:10])
    assert np.array_equal(worst[1].reshape(10, -1), model.reconstruct(digits.test.pixels(slice(10))).numpy())


def test_the_map_keeps_neighbours_together_and_comes_out_the_same_again() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(150) % 3
    codes = (8 * np.eye(5)[labels] + random.normal(size=(150, 5))).astype(np.float32)
    drawn = neighbourhoods(codes)
    assert np.array_equal(drawn, neighbourhoods(codes))
    distances = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1) + np.diag(np.full(150, np.inf))
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95
    assert neighbourhoods(random.normal(size=(MAPPED + 50, 1)).astype(np.float32)).shape == (MAPPED, 2)


def test_ticks_are_numbers_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of classes may hold dollar signs, so no text is parsed as TeX: none may need it."""
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_png", lambda figure: drawn.append(figure) or b"")
    figures.k_curves({"vae": ([1, 10, 100, 1000], [[-5.0, -4.0, -3.0, -2.0]] * 2)}, ["vae"])
    figures.rate_distortion({"vae": ([15.0, 16.0], [228.0, 229.0])}, ["vae"])
    figures.loss_curves({"vae": [{"train_loss": [3.0, 2.0], "train_rate_nats": [1.0, 1.0]}]})
    texts = []
    for figure in drawn:
        figure.canvas.draw()
        texts += [text.get_text() for text in figure.findobj(Text)]
    assert {"1", "10", "100", "1000"} <= set(texts)
    assert not [text for text in texts if "$" in text]


def test_curves_of_runs_that_stopped_earlier_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_png", lambda figure: drawn.append(figure) or b"")
    runs = [{"train_loss": losses} for losses in ([4.0, 2.0], [6.0, 4.0, 3.0])]
    figures.loss_curves({"ae": runs})
    (line,) = drawn[0].axes[0].get_lines()
    assert line.get_ydata().tolist() == [5.0, 3.0, 3.0]
