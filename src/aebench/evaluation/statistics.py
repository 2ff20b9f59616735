"""Means, their uncertainty, and differences between variants.

Seeds and images are crossed: every seed is evaluated on the same images. Shapes: S seeds, N images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Values = NDArray[np.floating]

NEEDS_SEEDS = "needs at least two seeds"
RESAMPLES = 1000


def summary(values: Sequence[float], per_image: Sequence[Values] | None) -> dict[str, Any]:
    """Mean over seeds with what is defined of its uncertainty.

    Args:
        values: one number a seed.
        per_image: for each seed the values `[N]` of which the number is the mean, where it is one.

    Returns:
        `mean`; with two seeds or more `sd` (n − 1) and `ci95`, Student's t over seeds; with per-image values
        `ci95_images`, Student's t over images of each image's mean over seeds.
    """
    result: dict[str, Any] = {"mean": float(np.mean(values))}
    if len(values) > 1:
        result["sd"] = float(np.std(values, ddof=1))
        result["ci95"] = interval(np.asarray(values))
    if per_image is not None and len(per_image[0]) > 1:
        result["ci95_images"] = interval(np.mean(per_image, axis=0))
    return result


def interval(values: Values) -> list[float]:
    """The 95 % interval of the mean of independent values `[n]`, n > 1, by Student's t."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return [mean - half, mean + half]


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval and two-sided p-value for no difference."""

    mean: float
    low: float
    high: float
    p: float


def paired_difference(a: Values, b: Values) -> Difference:
    """The mean of a − b for values `[S, N]` of the same seeds and images, S and N > 1.

    The variance of the mean of crossed factors is estimated by s²_seed/S + s²_image/N, from the means over images for
    each seed and the means over seeds for each image; its degrees of freedom are Satterthwaite's (1946).
    """
    difference = a - b
    parts = [
        (float(means.var(ddof=1)) / len(means), len(means) - 1)
        for means in (difference.mean(axis=1), difference.mean(axis=0))
    ]
    mean, variance = float(difference.mean()), sum(part for part, _ in parts)
    if variance == 0:
        return Difference(mean, mean, mean, float(mean == 0))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = variance**0.5
    half = float(stdtrit(freedom, 0.975)) * error
    return Difference(mean, mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error)))


def crossed_bootstrap(values: Mapping[str, Values], resamples: int = RESAMPLES) -> dict[str, Values]:
    """Means of `[S, N]` values over resampled seeds and resampled images, `[resamples]` for each name.

    Seeds and images are drawn with replacement, independently of each other, and the same for every name, so that a
    difference of two names' means is the mean difference in that resample (Owen 2007, §3, the pigeonhole bootstrap).
    """
    seeds, images = next(iter(values.values())).shape
    random = np.random.default_rng(0)
    stacked = np.concatenate(list(values.values()))  # [names · S, N]
    means = np.empty((resamples, len(values)))
    for resample in range(resamples):
        of_images = np.bincount(random.integers(images, size=images), minlength=images)
        of_seeds = np.bincount(random.integers(seeds, size=seeds), minlength=seeds)
        means[resample] = (stacked @ of_images).reshape(-1, seeds) @ of_seeds / (seeds * images)
    return dict(zip(values, means.T, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in their order (Holm 1979).

    However they depend on each other, in at most a share α of families any true null's adjusted p-value is below α.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1)
    return [float(value) for value in adjusted]
