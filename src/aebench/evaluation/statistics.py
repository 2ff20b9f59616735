"""Means, their uncertainty, and differences between variants.

Seeds and images are crossed: every seed is evaluated on the same images. Shapes: S seeds, N images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import t

Values = NDArray[np.floating]

NEEDS_SEEDS = "needs at least two seeds"
RESAMPLES = 1000
# Of the integral over a Student's t: nodes, and the probability beyond which its tail is left out.
NODES, NEGLIGIBLE = 200, 1e-12
# A scale that is so small beside the other is none.
ROUNDING = 1e-8


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
    each seed and the means over seeds for each image. Interval and p-value are Behrens and Fisher's: the mean is off by
    the sum of two independent Student's t, each with its own standard error and degrees of freedom (Fisher 1935). One t
    with Satterthwaite's degrees of freedom gives too many of the small p-values that decide among many pairs.
    """
    difference = a - b
    mean = float(difference.mean())
    parts = [
        (len(means) - 1, float(means.std(ddof=1)) / len(means) ** 0.5)
        for means in (difference.mean(axis=1), difference.mean(axis=0))
    ]
    most = 2 * sum(error * float(stdtrit(freedom, 0.975)) for freedom, error in parts)
    if most == 0:
        return Difference(mean, mean, mean, float(mean == 0))
    half = float(brentq(lambda distance: behrens_fisher(distance, *parts) - 0.05, 0, most, xtol=1e-12 * most))
    return Difference(mean, mean - half, mean + half, behrens_fisher(abs(mean), *parts))


def behrens_fisher(distance: float, *parts: tuple[int, float]) -> float:
    """How probable it is that the sum of two independent Student's t is farther from 0 than `distance`.

    Args:
        distance: not below 0.
        parts: of each t its degrees of freedom and its scale; one of the scales may be 0.
    """
    (heavy, scale), (light, other) = sorted(parts)
    if min(scale, other) <= ROUNDING * max(scale, other):
        freedom = light if scale < other else heavy
        return float(2 * stdtr(freedom, -distance / max(scale, other)))
    # The integral of P(t_heavy > y) over y, where the other t makes up for the rest of the distance. What is left of
    # either to integrate is smooth in x = arsinh y, and in s where x − x₀ is a multiple of sinh s: there the other's
    # middle lies, which may be narrow.
    farthest = -float(stdtrit(light, NEGLIGIBLE)) * other
    middle, width = np.arcsinh(distance / scale), min(1.0, other / math.hypot(scale, distance))
    low, high = (np.arcsinh((np.arcsinh((distance + end) / scale) - middle) / width) for end in (-farthest, farthest))
    nodes, weights = _gauss_legendre()
    s = low + (high - low) * nodes
    x = middle + width * np.sinh(s)
    y, stretched = np.sinh(x), np.cosh(x) * width * np.cosh(s) * scale / other
    density = t.pdf((distance - scale * y) / other, light)
    return float(min(2 * (high - low) * weights @ (density * stdtr(heavy, -y) * stretched), 1.0))


@cache
def _gauss_legendre() -> tuple[Values, Values]:
    """Nodes and weights of an integral over [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return 0.5 * (1 + nodes), 0.5 * weights


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

    However they depend on each other, in at most a share α of families any true null's adjusted p-value is below α, if
    each true null's own p-value is below every level with at most that probability.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1)
    return [float(value) for value in adjusted]
