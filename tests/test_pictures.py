"""The arrays behind the report's pictures."""

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import tiny
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from aebench.config import Corruption
from aebench.data.datasets import Splits
from aebench.evaluation.context import encode
from aebench.evaluation.metrics import main_metrics
from aebench.evaluation.pictures import MAPPED, REACH, STEPS, neighbourhoods, pictures
from aebench.models.corruption import apply, draw
from aebench.randomness import generator
from aebench.reporting import figures, fonts, gallery, overview
from aebench.reporting.maps import latent_maps

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

    # What is restored is what the metric spoils: each image by a generator of its number.
    chosen = [int((digits.test.labels == label).nonzero()[0]) for label in range(10)]
    masks = torch.cat([draw(CORRUPTION, (1, 64), generator("test", "corruption", image)) for image in chosen])
    spoilt = apply(x, CORRUPTION, masks)
    assert torch.equal(torch.from_numpy(found["corrupted"]).flatten(1), spoilt)
    np.testing.assert_allclose(found["restored"].reshape(10, -1), model.reconstruct(spoilt).numpy(), atol=1e-6)

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


def test_codes_that_are_all_one_have_a_map_too() -> None:
    assert np.isfinite(neighbourhoods(np.ones((50, 4), np.float32))).all()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in place of their bytes."""
    found: list[Figure] = []
    for module in (figures, overview):
        monkeypatch.setattr(module, "as_png", lambda figure: found.append(figure) or b"")
    return found


def words(figure: Figure) -> list[str]:
    """All that can be read in a figure."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text)]


def test_ticks_are_numbers_in_plain_text(drawn: list[Figure]) -> None:
    """Names of classes may hold dollar signs, so no text is parsed as TeX: none may need it."""
    figures.k_curves({"vae": ([1, 10, 100, 1000], [[-5.0, -4.0, -3.0, -2.0]] * 2)}, ["vae"])
    figures.rate_distortion({"vae": ([15.0, 16.0], [228.0, 229.0])}, ["vae"])
    figures.loss_curve("vae", [{"train_loss": [3.0, 2.0], "train_rate_nats": [1.0, 1.0]}], "nats")
    texts = [text for figure in drawn for text in words(figure)]
    assert {"1", "10", "100", "1000"} <= set(texts)
    assert not [text for text in texts if "$" in text]


@pytest.mark.parametrize(
    ("samples", "ticks"),
    [([1, 10, 100, 200], ["1", "10", "100", "200"]), ([1, 10, 97], ["1", "10", "97"]), ([1, 10, 12], ["1", "12"])],
)
def test_the_bound_by_k_has_a_tick_at_each_k_whose_number_has_room(
    drawn: list[Figure], samples: list[float], ticks: list[str]
) -> None:
    figures.k_curves({"vae": (samples, [[-5.0] * len(samples)])}, ["vae"])
    drawn[0].canvas.draw()
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels(which="both")]
    assert [label for label in labels if label] == ticks


def test_curves_of_runs_that_stopped_earlier_than_others(drawn: list[Figure]) -> None:
    runs = [{"train_loss": losses} for losses in ([4.0, 2.0], [6.0, 4.0, 3.0])]
    figures.loss_curve("ae", runs, "squared error")
    (line,) = drawn[0].axes[0].get_lines()
    assert line.get_ydata().tolist() == [5.0, 3.0, 3.0]


@dataclass(frozen=True)
class FakeCell:
    """What the pictures need of a cell, without files."""

    variant: str
    summary: dict[str, dict[str, object]]
    likelihood: str = "bernoulli"
    labelled: bool = False
    classes: int = 3
    seeds: tuple[int, ...] = (0,)

    @property
    def metrics(self) -> dict[str, Any]:
        protocol = {"trained_with_labels": self.labelled, "likelihood": self.likelihood, "binarization": "none"}
        protocol |= {"proposal": "q", "importance_samples": 9, "images": self.classes, "seeds": 2}
        vectors: dict[str, object] = {"k_curve_nats": []} if "elbo_nats" in self.summary else {}
        return {"summary": self.summary, "protocol": protocol, "vectors": vectors}

    def seed_vectors(self, name: str) -> list[list[float]]:
        return [[1.0, 9.0] if name == "k_curve_samples" else [-3.0, -2.0]]

    def seed_values(self, name: str) -> list[float]:
        return [9.0 if name == "rate_nats" else 99.0]

    def history(self, seed: int) -> dict[str, list[float]]:
        return {"epoch": [1.0, 2.0], "train_loss": [2.0, 1.0]}

    def arrays(self, seed: int) -> dict[str, NDArray[Any]]:
        """One image a class, of 4 × 4 pixels."""
        images, labels = np.zeros((self.classes, 1, 4, 4)), np.arange(self.classes)
        of_classes = dict.fromkeys(("originals", "reconstructions", "corrupted", "restored", "mapped_images"), images)
        rows = np.zeros((self.classes // 2, 5, 1, 4, 4))
        points = np.random.default_rng(0).normal(size=(self.classes, 2))
        return {
            **of_classes,
            **dict.fromkeys(("best", "worst"), np.zeros((2, 5, 1, 4, 4))),
            **dict.fromkeys(("labels", "probe_predictions"), labels),
            **dict.fromkeys(("plane", "neighbourhoods"), points),
            **{"interpolations": rows, "traversal": rows[:1], "traversed": labels[:1]},
            "samples": np.zeros((self.classes, 5, 1, 4, 4)),
        }


def of(mean: float) -> dict[str, object]:
    """A metric's summary."""
    return {"mean": mean, "ci95": [mean - 1, mean + 1]}


def test_the_overview_has_all_variants_in_one_order_and_marks_what_is_not_compared(drawn: list[Figure]) -> None:
    cells: list[Any] = [
        FakeCell("plain", {"probe_accuracy": of(0.7), "reconstruction_mse": of(0.01)}),
        FakeCell("labelled", {"probe_accuracy": of(0.8), "elbo_nats": of(-9)}, labelled=True),
        FakeCell("other", {"probe_accuracy": of(0.6), "elbo_nats": of(-8)}),
        FakeCell("too", {"probe_accuracy": of(0.9)}, labelled=True),
    ]
    panels = {panel.name: panel for panel in overview.charts(cells, {"elbo_nats": {"other"}})}
    assert list(panels) == [name for name in main_metrics() if name in panels]
    assert set(panels) == {"probe_accuracy", "reconstruction_mse", "elbo_nats"}
    assert {tuple(panel.lines) for panel in panels.values()} == {("plain", "labelled", "other", "too")}

    probe = panels["probe_accuracy"]
    assert {name: dot.group for name, dot in probe.dots.items()} == {"plain": 0, "labelled": 1, "other": 0, "too": 1}
    assert probe.dots["plain"][:3] == pytest.approx((70, -30, 170))  # per cent
    assert probe.warning == "● and ■ are not compared"
    elbo = panels["elbo_nats"]
    assert (elbo.lines["plain"], elbo.warning) == ("not defined", "")
    assert [name for name, dot in elbo.dots.items() if dot.leads] == ["other"]
    assert panels["reconstruction_mse"].dots["plain"].group is None

    overview.draw_all([*panels.values()])
    rows = {axes.get_title(loc="left"): [line.get_marker() for line in axes.get_lines()] for axes in drawn[0].axes[:3]}
    assert rows["logistic probe [%]"] == ["None", "o", "None", "s", "None", "o", "None", "s"]
    assert {"more is better →", "← less is better"} <= {text.split("\n")[0] for text in words(drawn[0])}


@pytest.mark.filterwarnings("error")
def test_the_longest_names_are_whole_in_the_overview(drawn: list[Figure]) -> None:
    cells: list[Any] = [FakeCell(name, {"active_units": of(1)}) for name in ("a" * 64, "m" * 40, "vae")]
    (panel,) = overview.charts(cells, {})
    overview.draw(panel)
    overview.draw_all([panel] * 4)
    for figure in drawn:
        figure.canvas.draw()
        names = [text for text in figure.findobj(Text) if text.get_text() in panel.lines]
        assert {text.get_text() for text in names} == {*panel.lines}
        visible = [text.get_window_extent() for text in names if text.get_visible()]
        assert min(box.x0 for box in visible) >= 0
        assert all(axes.get_window_extent().width > 150 for axes in figure.axes if axes.axison)


def test_codes_that_are_all_the_same_are_in_the_middle_of_their_map() -> None:
    class Collapsed(FakeCell):
        def arrays(self, seed: int) -> dict[str, NDArray[Any]]:
            return super().arrays(seed) | dict.fromkeys(("plane", "neighbourhoods"), np.full((3, 2), 5.0))

    cell: Any = Collapsed("vae", {})
    (found,) = latent_maps([cell], ["a", "b", "c"])["maps"].values()
    assert {tuple(point) for points in found.values() for point in points} == {(500, 500)}


def test_a_long_title_is_whole(drawn: list[Figure]) -> None:
    (panel,) = overview.charts([cast("Any", FakeCell("vae_vampprior", {"active_units": of(1)}))], {})
    panel = replace(panel, title="log p̂(x), discretised_logistic [nats]")
    overview.draw(panel)
    overview.draw_all([panel] * 3)
    for figure in drawn:
        figure.canvas.draw()
        titles = [text for text in figure.findobj(Text) if "logistic" in text.get_text()]
        assert titles
        assert all(" ".join(text.get_text().split()) == panel.title for text in titles)
        assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in titles)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [7, 31])
def test_many_variants_are_told_apart_and_named(drawn: list[Figure], count: int) -> None:
    names = [f"variant_number_{number}" for number in range(count)]
    runs = [{"validation_reconstruction_mse": [0.2, 0.1]}]
    figures.error_curves(dict.fromkeys(names, runs))
    figures.k_curves(dict.fromkeys(names, ([1, 300], [[-3.0, -2.0]])), names)
    figures.rate_distortion(dict.fromkeys(names, ([9.0], [99.0])), names)
    for figure in drawn:
        figure.canvas.draw()
        whole, (axes,) = figure.bbox, figure.axes
        (legend,) = [*figure.legends, *filter(None, [axes.get_legend()])]
        assert [text.get_text() for text in legend.get_texts()] == names
        box = legend.get_window_extent()
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
        assert (box.x0 >= axes.get_window_extent().x1) == (count > figures.NAMES_INSIDE)
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines() if line.get_label() in names}
        marks = {
            (str(points.get_facecolor()), str(points.get_paths()[0].vertices))
            for points in axes.collections
            if points.get_label() in names
        }
        assert max(len(looks), len(marks)) == count


def test_nats_of_two_likelihoods_stand_on_two_axes(drawn: list[Figure]) -> None:
    cells: list[Any] = [
        FakeCell("a", {"elbo_nats": of(-200)}),
        FakeCell("b", {"elbo_nats": of(-201)}),
        FakeCell("c", {"elbo_nats": of(900)}, likelihood="gaussian"),
    ]
    first, second = overview.charts(cells, {})
    assert (first.title, second.title) == ("ELBO, bernoulli [nats]", "ELBO, gaussian [nats]")
    assert (list(first.dots), list(second.dots)) == (["a", "b"], ["c"])
    assert first.lines["c"] == second.lines["a"] == "in another panel"
    for several, panels in (
        (cells[:2], {"": {"a", "b"}}),
        (cells, {"bernoulli": {"a", "b"}, "gaussian": {"c"}}),
    ):
        drawn.clear()
        found = {picture.name: picture.panels for picture in gallery.pictures(several, ["x", "y", "z"], {})}
        for name, label in (("k-curve", "bound on"), ("rate-distortion", "distortion")):
            assert [panel.name for panel in found[name]] == [*panels]
            axes = [axes for figure in drawn for axes in figure.axes if axes.get_ylabel().startswith(label)]
            assert {each.get_title(): set(each.get_legend_handles_labels()[1]) for each in axes} == panels


def size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    width, height = struct.unpack(">2I", png[16:24])
    return width, height


@pytest.mark.parametrize("classes", [3, 20, 700])
def test_many_classes_take_no_more_room_than_few(classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    cells: list[Any] = [FakeCell(name, {"active_units": of(1)}, classes=classes, labelled=True) for name in "ab"]
    found = {picture.name: picture for picture in gallery.pictures(cells, names, {})}
    assert all(max(size(png)) < 2000 for picture in found.values() for png in picture.files().values())
    assert len(found["reconstructions"].headings) == min(classes, gallery.SHOWN_CLASSES)
    confusion, maps = found["confusion"], latent_maps(cells, names)
    if classes <= figures.LEGIBLE_CLASSES:
        assert len(confusion.panels) == 2
        assert maps["legend"]
        assert len(set(maps["colours"])) == classes
    else:
        assert (confusion.panels, "700 classes" in confusion.caption) == ((), True)
        assert "700 classes" in found["latent-space"].caption
        assert "of 700 classes" in found["reconstructions"].caption
        assert not maps["legend"]
        assert len(set(maps["colours"])) == 1


def test_letters_of_any_script_are_drawn_where_a_font_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """A font made here has one sign that matplotlib's own lacks; no font has the other."""
    own, there, nowhere = "платье, Kleid, \u200d\ufe0f", "\U000f0001", "\U000f0002"
    manager = font_manager.fontManager
    with_matplotlib = {entry.name for entry in manager.ttflist if "matplotlib" in entry.fname}
    monkeypatch.setattr(manager, "ttflist", [entry for entry in manager.ttflist if entry.name in with_matplotlib])
    manager.addfont(font_of(there, tmp_path / "signs.ttf"))
    fonts._matching_families.cache_clear()
    assert fonts.lacking([own]) == ""
    assert fonts.lacking([own, there + nowhere]) == nowhere

    def confusion(name: str) -> bytes:
        return figures.confusion("vae", np.eye(2), [name, "b"])

    with fonts.drawing([own]):
        assert plt.rcParams["font.family"] == [fonts.OWN]  # elsewhere, too, whatever fonts there are
    with fonts.drawing([there, nowhere]):
        assert plt.rcParams["font.family"] == [fonts.OWN, "Signs"]
        assert confusion(there) != confusion(nowhere)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def font_of(letter: str, path: Path) -> Path:
    """A font with a square for one letter."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 600), (600, 600), (600, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "sign"])
    builder.setupCharacterMap({ord(letter): "sign"})
    builder.setupGlyf({".notdef": square, "sign": square})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "sign"), (700, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Signs", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path
