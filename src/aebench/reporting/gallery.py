"""The report's pictures of one data set, each with the sentence that says what to see in it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebench.evaluation.pictures import REACH
from aebench.reporting import figures, fonts, overview
from aebench.reporting.figures import LEGIBLE_CLASSES
from aebench.reporting.results import Cell, confusion
from aebench.reporting.sheets import Rows, image_rows, strip

OVER_SEEDS = "Lines are means over seeds, bands the range over seeds."
# So many classes, or rows of two of them, are shown of a data set that has more.
SHOWN_CLASSES, SHOWN_PAIRS = 10, 5
Arrays = dict[str, dict[str, NDArray[Any]]]
"""By variant, the arrays of its first seed."""


@dataclass(frozen=True)
class Panel:
    """A part of a picture, most often of one variant.

    `png` is all of it. Where it is rows of images, `rows` are these without words, each with its name.
    """

    name: str
    png: bytes
    rows: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Picture:
    """Panels side by side, with the sentence that says what to see in them; `headings` name the columns of rows."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    headings: tuple[str, ...] = ()

    def files(self) -> dict[str, bytes]:
        """The panels by the names of their files."""
        return {"-".join(filter(None, (self.name, panel.name))): panel.png for panel in self.panels}


def pictures(cells: Sequence[Cell], classes: Sequence[str], leaders: Mapping[str, Collection[str]]) -> list[Picture]:
    """All pictures of one data set's cells, in the order in which the page shows them; the overview is the first.

    Args:
        cells: of the data set.
        classes: their names.
        leaders: by metric the variants whose values are marked as best.

    Raises:
        DataError: an evaluation or a history is missing or damaged.
    """
    with fonts.drawing([*classes, *(cell.variant for cell in cells)]):
        overview = [*_overview(cells, leaders)]
        cells = [cell for cell in cells if cell.seeds]
        first = {cell.variant: cell.arrays(cell.seeds[0]) for cell in cells}
        shown = {cell.seeds[0] for cell in cells}
        seed = f"seed {shown.pop()}" if len(shown) == 1 else "of each variant the first seed that has not failed"
        return [
            *overview,
            *_restored(first, classes, seed),
            *_extremes(first, seed),
            *_walks(first, seed),
            *_samples(cells, first, classes, seed),
            *_curves(cells),
            *_bounds(cells),
            *_codes(cells, first, classes, seed),
        ]


def _overview(cells: Sequence[Cell], leaders: Mapping[str, Collection[str]]) -> Iterator[Picture]:
    caption = (
        "Each main metric’s mean (a dot) and its 95 % interval over seeds (a bar), or over images where there is one "
        "seed. What is blue is better than every other variant that it is compared with. Dots of one shape compare "
        "with each other; a hollow one compares with no other."
    )
    drawn = tuple(Panel(chart.name, overview.draw(chart)) for chart in overview.charts(cells, leaders))
    yield Picture("overview", "At a glance", caption, drawn)


def _restored(first: Arrays, classes: Sequence[str], seed: str) -> Iterator[Picture]:
    some = next(iter(first.values()))
    which = "each class" if len(classes) <= SHOWN_CLASSES else f"the first {SHOWN_CLASSES} of {len(classes)} classes"
    rows = [("original", some["originals"]), *((name, arrays["reconstructions"]) for name, arrays in first.items())]
    caption = (
        f"The first test image of {which} (top) and what each variant makes of it ({seed}); no label is given to any "
        "variant."
    )
    yield _of_classes("reconstructions", "Reconstructions", caption, rows, classes)
    rows = [("original", some["originals"]), ("corrupted", some["corrupted"])]
    rows += [(name, arrays["restored"]) for name, arrays in first.items()]
    caption = (
        f"The same images, their corrupted inputs, and what each variant restores ({seed}). Only a DAE has been "
        "trained to."
    )
    yield _of_classes("denoising", "Denoising", caption, rows, classes)


def _of_classes(name: str, title: str, caption: str, rows: Rows, classes: Sequence[str]) -> Picture:
    """A picture with a column a class."""
    headings = tuple(classes[:SHOWN_CLASSES])
    rows = [(of, images[:SHOWN_CLASSES]) for of, images in rows]
    return Picture(name, title, caption, (_panel("", rows, headings),), headings)


def _panel(name: str, rows: Rows, headings: Sequence[str] = ()) -> Panel:
    return Panel(name, image_rows(rows, headings), tuple((of, strip(images)) for of, images in rows))


def _extremes(first: Arrays, seed: str) -> Iterator[Picture]:
    for name, words in (("worst", "largest"), ("best", "smallest")):
        caption = (
            f"For each variant the test images with the {words} reconstruction error ({seed}), from left to right, and "
            "below them their reconstructions."
        )
        panels = (
            _panel(variant, list(zip(("original", "restored"), arrays[name], strict=True)))
            for variant, arrays in first.items()
        )
        yield Picture(f"{name}-reconstructions", f"{name.title()} reconstructions", caption, tuple(panels))


def _walks(first: Arrays, seed: str) -> Iterator[Picture]:
    walks = {variant: arrays["interpolations"][:SHOWN_PAIRS] for variant, arrays in first.items()}
    if all(map(len, walks.values())):
        caption = (
            f"Between the codes of two test images, in equal steps ({seed}): left and right are reconstructions, what "
            "lies between is no image of the data."
        )
        panels = tuple(_panel(variant, _unnamed(images)) for variant, images in walks.items())
        yield Picture("interpolations", "Interpolations", caption, panels)
    caption = (
        f"One latent dimension at a time moved from {REACH:g} standard deviations below its mean to {REACH:g} above, "
        f"the others left at the code of the first test image ({seed}). Shown are the dimensions whose codes vary "
        "most; where nothing changes along a row, the decoder ignores the dimension."
    )
    panels = tuple(
        _panel(variant, [(f"z[{d}]", row) for d, row in zip(arrays["traversed"], arrays["traversal"], strict=True)])
        for variant, arrays in first.items()
    )
    yield Picture("traversals", "Latent traversals", caption, panels)


def _samples(cells: Sequence[Cell], first: Arrays, classes: Sequence[str], seed: str) -> Iterator[Picture]:
    panels = []
    by_class = False
    for cell in cells:
        if "samples" not in (arrays := first[cell.variant]):
            continue
        images = arrays["samples"][:SHOWN_CLASSES]
        rows = _unnamed(images)
        if cell.metrics["protocol"]["trained_with_labels"]:
            rows, by_class = list(zip(classes, images, strict=False)), True
        panels.append(_panel(cell.variant, rows))
    if panels:
        caption = f"Means of p(x|z) for z drawn from the prior ({seed})."
        if by_class:
            which = f" of the first {SHOWN_CLASSES} classes" if len(classes) > SHOWN_CLASSES else ""
            caption += (
                f" Where a label y enters the model, of p(x|z, y) for z drawn from p(z|y), a row for each y{which}."
            )
        yield Picture("samples", "Samples", caption, tuple(panels))


def _unnamed(images: NDArray[Any]) -> Rows:
    return [("", row) for row in images]


def _curves(cells: Sequence[Cell]) -> Iterator[Picture]:
    curves = {cell.variant: [cell.history(seed) for seed in cell.seeds] for cell in cells}
    if (png := figures.error_curves(curves)) is not None:
        caption = f"Error on validation images (1,000 at most) after each epoch; lower is better. {OVER_SEEDS}"
        yield Picture("error-curves", "Reconstruction error in training", caption, (Panel("", png),))
    caption = (
        f"Each variant's own objective; the scales differ, so compare within a panel. {OVER_SEEDS} "
        "A DAE's training and validation inputs are corrupted."
    )
    units = ("nats" if "likelihood" in cell.metrics["protocol"] else "squared error" for cell in cells)
    panels = (
        Panel(variant, figures.loss_curve(variant, runs, unit))
        for (variant, runs), unit in zip(curves.items(), units, strict=True)
    )
    yield Picture("loss-curves", "Losses in training", caption, tuple(panels))


def _bounds(cells: Sequence[Cell]) -> Iterator[Picture]:
    """Nats under two likelihoods are two quantities, so each likelihood has a panel."""
    of_likelihood: dict[str, list[Cell]] = {}
    for cell in cells:
        if "k_curve_nats" in cell.metrics["vectors"]:
            of_likelihood.setdefault(cell.metrics["protocol"]["likelihood"], []).append(cell)
    if not of_likelihood:
        return
    variants = [cell.variant for cell in cells]

    def panels(draw: Callable[..., bytes], values: Callable[[Cell], Any]) -> tuple[Panel, ...]:
        shown = {name: {cell.variant: values(cell) for cell in of_cells} for name, of_cells in of_likelihood.items()}
        if len(shown) == 1:
            return (Panel("", draw(*shown.values(), variants)),)
        return tuple(Panel(name, draw(of_cells, variants, title=name)) for name, of_cells in shown.items())

    caption = (
        "The bound on log p(x) with K samples, each point from all disjoint blocks of the same samples; at K = 1 "
        "it is the ELBO of the proposal. Where a curve still rises at its end, a "
        f"larger K would raise log p̂. {OVER_SEEDS}"
    )
    found = panels(
        figures.k_curves, lambda cell: (cell.seed_vectors("k_curve_samples")[0], cell.seed_vectors("k_curve_nats"))
    )
    yield Picture("k-curve", "The bound and the number of samples", caption, found)
    caption = (
        "Every run as a point: how many nats its code holds of an image, and how many remain to be said when the code "
        "is known. Grey lines join equal ELBOs; further down and to the left is better. A larger β moves a run to "
        "the upper left."
    )
    found = panels(
        figures.rate_distortion, lambda cell: (cell.seed_values("rate_nats"), cell.seed_values("distortion_nats"))
    )
    yield Picture("rate-distortion", "Rate and distortion", caption, found)


def _codes(cells: Sequence[Cell], first: Arrays, classes: Sequence[str], seed: str) -> Iterator[Picture]:
    legible = len(classes) <= LEGIBLE_CLASSES
    caption = (
        "Of each true class (row) the share, in per cent, that the logistic probe reads as each class (column); the "
        "mean over seeds, shares below half a per cent left out."
        if legible
        else f"Not drawn: {len(classes)} classes are too many to be read in one picture."
    )
    panels = tuple(
        Panel(cell.variant, figures.confusion(cell.variant, _confusion(cell, len(classes)), classes))
        for cell in cells
        if legible
    )
    yield Picture("confusion", "What the probe confuses", caption, panels)
    labels = next(iter(first.values()))["labels"]
    coloured = (
        "coloured by class. Classes that overlap here may still lie apart in the other dimensions."
        if legible
        else f"all in one colour, since those of {len(classes)} classes cannot be told apart."
    )
    caption = f"Codes of the {len(labels):,} test images on their first two principal components ({seed}), {coloured}"
    panels = tuple(
        Panel(name, figures.latent_map(name, arrays["plane"], labels, classes)) for name, arrays in first.items()
    )
    yield Picture("latent-space", "Latent space", caption, panels)


def _confusion(cell: Cell, classes: int) -> NDArray[np.float64]:
    """Per cent of each true class, mean over seeds, `[C, C]`."""
    shares = []
    for seed in cell.seeds:
        counts = confusion(cell.arrays(seed), classes)
        shares.append(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    mean: NDArray[np.float64] = np.mean(shares, axis=0)
    return mean
