"""Training and evaluation know where their tensors are: on a stand-in for a GPU they give what they give on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from card import DEVICE, Card
from conftest import protocol, tiny
from test_evaluate import EVALUATION, evaluated, run, small
from test_variants import SETTINGS

from aebench.data.datasets import Split, Splits
from aebench.training.stacked import train_stacked
from aebench.training.train import History

SEEDS = (0, 1)
EPOCH = protocol(epochs=1, batch_size=200, learning_rate=1e-3, select="best_validation")


def test_the_stand_in_refuses_what_a_gpu_refuses() -> None:
    with Card():
        there = torch.arange(5, device=DEVICE)
        assert there.sum().item() == 10
        assert there.cpu().numpy().sum() == 10
        with pytest.raises(AssertionError, match="of the card and of the CPU"):
            there + torch.ones(5)
        with pytest.raises(AssertionError, match="a generator of the CPU"):
            there.float().normal_(generator=torch.Generator())
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


# The stand-in's tensors are of a kind of which torch has no forward derivatives.
STEPPED = [name for name, settings in SETTINGS.items() if settings.get("regulariser") != "gradient_penalty"]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", STEPPED)
def test_training_on_a_card_is_training_on_the_cpu(name: str, dynamic: bool, digits: Splits) -> None:
    data = Split(digits.train.images, digits.train.labels, dynamic)

    def trained(device: torch.device) -> tuple[list[dict[str, float]], list[dict[str, torch.Tensor]]]:
        models = [tiny(seed=seed, **SETTINGS[name]) for seed in SEEDS]  # type: ignore[arg-type]
        found = train_stacked(models, data, digits.validation, EPOCH, SEEDS, device)
        rows = [row for history in found if isinstance(history, History) for row in history.epochs]
        return rows, [model.cpu().state_dict() for model in models]

    rows, weights = trained(torch.device("cpu"))
    with Card():
        there, weights_there = trained(DEVICE)
    assert len(rows) == len(SEEDS)
    assert there == [pytest.approx(row, rel=1e-5) for row in rows]
    for ours, theirs in zip(weights, weights_there, strict=True):
        torch.testing.assert_close(ours, theirs)


# A group of images draws other samples than each image alone.
SAMPLED = {
    *("elbo_nats", "distortion_nats", "iw_log_likelihood_nats", "generalisation_gap_nats"),
    *("elbo_given_label_nats", "iw_log_likelihood_given_label_nats", "expost_log_likelihood_nats"),
}
HEALTH = ("effective_sample_size", "pareto_k", "pareto_k_unreliable_share")


def differences(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """The derivative without automatic differentiation in forward mode, which takes no stand-in."""
    steps = 0.01 * torch.eye(z.shape[-1]).to(z)
    return torch.stack([(function(z + step) - function(z - step)) / 0.02 for step in steps], dim=-1)


@pytest.mark.parametrize(
    ("kind", "settings", "proposal"),
    [
        *(("ae", {}, "amortised"), ("vae", {}, "amortised"), ("vae", {"likelihood": "gaussian"}, "amortised")),
        *(("cvae", {}, "amortised"), ("cvae", {"conditioning": "concat"}, "amortised")),
        *(("vae", {}, "refined"), ("cvae", {}, "refined"), ("cvae", {"conditioning": "concat"}, "refined")),
        *(("vae", {}, "laplace"), ("cvae", {}, "laplace"), ("cvae", {"conditioning": "concat"}, "laplace")),
    ],
)
def test_evaluation_on_a_card_is_evaluation_on_the_cpu(
    kind: str,
    settings: dict[str, str],
    proposal: str,
    digits_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = small(digits_file, tmp_path / "data.safetensors", 30)
    folder = run(data, tmp_path / "run", kind, **settings)
    config = EVALUATION.model_copy(update={"proposal": proposal})
    monkeypatch.setattr("aebench.evaluation.proposals.laplace._derivative", differences)
    here = evaluated(folder, data, config)
    monkeypatch.setattr("aebench.evaluation.evaluate.available", lambda _: DEVICE)
    with Card():
        there = evaluated(folder, data, config)
    assert set(there.metrics) == set(here.metrics)
    for name, value in here.metrics.items():
        if name in SAMPLED:
            # The weights of so short a training's ex-post density have heavy tails.
            assert there.metrics[name] == pytest.approx(value, abs=0.5 if name.startswith("expost") else 0.15), name
        elif not name.endswith(HEALTH):
            assert there.metrics[name] == pytest.approx(value, rel=1e-4), name
    for found, expected in ((there.per_image, here.per_image), (there.arrays, here.arrays)):
        assert set(found) == set(expected)
        for name in set(expected) - SAMPLED:
            if not name.endswith(HEALTH):
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
