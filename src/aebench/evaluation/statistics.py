"""Means and their uncertainty."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

NEEDS_SEEDS = "needs at least two seeds"


def summary(values: Sequence[float], per_image: Sequence[NDArray[np.floating]] | None) -> dict[str, Any]:
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


def interval(values: NDArray[np.floating]) -> list[float]:
    """The 95 % interval of the mean of independent values `[n]`, n > 1, by Student's t."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return [mean - half, mean + half]
