"""The report's pictures of one data set, each with the sentence that says what to see in it."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebench.evaluation.pictures import REACH
from aebench.reporting import figures
from aebench.reporting.results import Cell, confusion

OVER_SEEDS = "Lines are means over seeds, bands the range over seeds."
Arrays = dict[str, dict[str, NDArray[Any]]]
"""By variant, the arrays of its first seed."""


@dataclass(frozen=True)
class Picture:
    """A figure with the sentence that says what to see in it."""

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def pictures(cells: Sequence[Cell], classes: Sequence[str]) -> list[Picture]:
    """All pictures of one data set's cells, in the order in which the page shows them.

    Raises:
        DataError: an evaluation or a history is missing or damaged.
    """
    cells = [cell for cell in cells if cell.seeds]
    first = {cell.variant: cell.arrays(cell.seeds[0]) for cell in cells}
    shown = {cell.seeds[0] for cell in cells}
    seed = f"seed {shown.pop()}" if len(shown) == 1 else "of each variant the first seed that has not failed"
    return [
        *_restored(first, classes, seed),
        *_curves(cells),
        *_bounds(cells),
        *_extremes(first, seed),
        *_walks(first, seed),
        *_samples(cells, first, classes, seed),
        *_codes(cells, first, classes, seed),
    ]


def _restored(first: Arrays, classes: Sequence[str], seed: str) -> Iterator[Picture]:
    some = next(iter(first.values()))
    yield Picture(
        "reconstructions",
        "Reconstructions",
        f"The first test image of each class (top) and what each variant makes of it ({seed}); "
        "no label is given to any variant.",
        figures.image_rows(
            {"original": some["originals"]} | {name: arrays["reconstructions"] for name, arrays in first.items()},
            classes,
        ),
    )
    yield Picture(
        "denoising",
        "Denoising",
        f"The same images, their corrupted inputs, and what each variant restores ({seed}). "
        "Only a DAE has been trained to.",
        figures.image_rows(
            {"original": some["originals"], "corrupted": some["corrupted"]}
            | {name: arrays["restored"] for name, arrays in first.items()},
            classes,
        ),
    )


def _curves(cells: Sequence[Cell]) -> Iterator[Picture]:
    curves = {cell.variant: [cell.history(seed) for seed in cell.seeds] for cell in cells}
    if (png := figures.error_curves(curves)) is not None:
        caption = f"Error on validation images (the first 1,000) after each epoch; lower is better. {OVER_SEEDS}"
        yield Picture("error-curves", "Reconstruction error in training", caption, png)
    caption = (
        f"Each variant's own objective; the scales differ, so compare within a panel. {OVER_SEEDS} "
        "A DAE's training and validation inputs are corrupted."
    )
    yield Picture("loss-curves", "Losses in training", caption, figures.loss_curves(curves))


def _bounds(cells: Sequence[Cell]) -> Iterator[Picture]:
    with_bounds = [cell for cell in cells if "k_curve_nats" in cell.metrics["vectors"]]
    if not with_bounds:
        return
    variants = [cell.variant for cell in cells]
    bounds = {
        cell.variant: (cell.seed_vectors("k_curve_samples")[0], cell.seed_vectors("k_curve_nats"))
        for cell in with_bounds
    }
    caption = (
        "The bound on log p(x) with K samples, each point from all disjoint blocks of the same samples; at K = 1 "
        "it is the ELBO (a little more where a label is summed out). Where a curve still rises at its end, a "
        f"larger K would raise log p̂. {OVER_SEEDS}"
    )
    yield Picture("k-curve", "The bound and the number of samples", caption, figures.k_curves(bounds, variants))
    points = {
        cell.variant: (cell.seed_values("rate_nats"), cell.seed_values("distortion_nats")) for cell in with_bounds
    }
    caption = (
        "Every run as a point: how many nats its code holds of an image, and how many remain to be said when the code "
        "is known. Grey lines join equal ELBOs; further down and to the left is better. A larger β moves a run to "
        "the upper left."
    )
    yield Picture("rate-distortion", "Rate and distortion", caption, figures.rate_distortion(points, variants))


def _extremes(first: Arrays, seed: str) -> Iterator[Picture]:
    for name, words in (("worst", "largest"), ("best", "smallest")):
        rows = {}
        for variant, arrays in first.items():
            rows[f"{variant}: original"], rows[f"{variant}: restored"] = arrays[name]
        caption = (
            f"For each variant the test images with the {words} reconstruction error ({seed}), from left to right, and "
            "their reconstructions."
        )
        yield Picture(f"{name}-reconstructions", f"{name.title()} reconstructions", caption, figures.image_rows(rows))


def _walks(first: Arrays, seed: str) -> Iterator[Picture]:
    for variant, arrays in first.items():
        if len(arrays["interpolations"]):
            rows = _named_rows([""] * len(arrays["interpolations"]), arrays["interpolations"])
            caption = (
                f"Between the codes of two test images, in equal steps ({seed}): left and right are reconstructions, "
                "what lies between is no image of the data."
            )
            title = f"Interpolations of {variant}"
            yield Picture(f"interpolations-{variant}", title, caption, figures.image_rows(rows))
        names = [f"z[{dimension}]" for dimension in arrays["traversed"]]
        caption = (
            f"One latent dimension at a time moved from {REACH:g} standard deviations below its mean to {REACH:g} "
            f"above, the others left at the code of the first test image ({seed}). Shown are the dimensions whose "
            "codes vary most; where nothing changes along a row, the decoder ignores the dimension."
        )
        png = figures.image_rows(_named_rows(names, arrays["traversal"]))
        yield Picture(f"traversal-{variant}", f"Latent traversal of {variant}", caption, png)


def _samples(cells: Sequence[Cell], first: Arrays, classes: Sequence[str], seed: str) -> Iterator[Picture]:
    for cell in cells:
        if "samples" not in (arrays := first[cell.variant]):
            continue
        by_class = cell.metrics["protocol"]["trained_with_labels"]
        names = classes if by_class else [""] * len(arrays["samples"])
        caption = (
            f"Means of p(x|z, y) for z drawn from p(z|y) ({seed}), a row for each class y."
            if by_class
            else f"Means of p(x|z) for z drawn from the prior ({seed})."
        )
        png = figures.image_rows(_named_rows(names, arrays["samples"]))
        yield Picture(f"samples-{cell.variant}", f"Samples of {cell.variant}", caption, png)


def _codes(cells: Sequence[Cell], first: Arrays, classes: Sequence[str], seed: str) -> Iterator[Picture]:
    matrices = {cell.variant: _confusion(cell, len(classes)) for cell in cells}
    caption = (
        "Of each true class (row) the share, in per cent, that the logistic probe reads as each class (column); the "
        "mean over seeds, shares below half a per cent left out."
    )
    yield Picture("confusion", "What the probe confuses", caption, figures.confusions(matrices, classes))
    maps = {name: arrays["plane"] for name, arrays in first.items()}
    labels = next(iter(first.values()))["labels"]
    caption = (
        f"Codes of the {len(labels):,} test images on their first two principal components ({seed}), coloured "
        "by class. Classes that overlap here may still lie apart in the other dimensions."
    )
    yield Picture("latent-space", "Latent space", caption, figures.latent_maps(maps, labels, classes))


def _confusion(cell: Cell, classes: int) -> NDArray[np.float64]:
    """Per cent of each true class, mean over seeds, `[C, C]`."""
    shares = []
    for seed in cell.seeds:
        counts = confusion(cell.arrays(seed), classes)
        shares.append(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    mean: NDArray[np.float64] = np.mean(shares, axis=0)
    return mean


def _named_rows(names: Sequence[str], images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    # Rows without a name still need keys that differ.
    return {name or " " * position: row for position, (name, row) in enumerate(zip(names, images, strict=True))}
