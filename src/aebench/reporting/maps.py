"""Latent maps to look into: points with the images behind them, as data for the page's script."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from aebench.reporting.figures import LEGIBLE_CLASSES, class_colours
from aebench.reporting.results import Cell
from aebench.reporting.sheets import address, contact_sheet

COLUMNS = 40


def latent_maps(cells: Sequence[Cell], classes: Sequence[str]) -> dict[str, Any]:
    """The first test images on each variant's maps (first seed), PCA and t-SNE, in thousandths of a map's width.

    `images` is a `data:` address of all of them side by side, `COLUMNS` in a row. Without any map the result is empty.
    """
    read = {cell.variant: cell.arrays(cell.seeds[0]) for cell in cells if cell.seeds}
    # The maps are drawn for the first seed, which may have failed.
    first = {variant: arrays for variant, arrays in read.items() if "neighbourhoods" in arrays}
    if not first:
        return {}
    some = next(iter(first.values()))
    images = some["mapped_images"] / 255
    shown, (_, height, width) = len(images), images.shape[1:]
    padded = np.concatenate([images, np.zeros((-shown % COLUMNS, *images.shape[1:]))])
    sheet = contact_sheet(padded.reshape(-1, COLUMNS, *images.shape[1:]), enlarge=1)
    return {
        "shown": shown,
        "tile": [width, height],
        "columns": COLUMNS,
        "images": address(sheet),
        "classes": list(classes),
        "colours": [to_hex(colour) for colour in class_colours(len(classes))],
        "legend": len(classes) <= LEGIBLE_CLASSES,
        "labels": some["labels"][:shown].tolist(),
        "maps": {
            variant: {"PCA": _thousandths(arrays["plane"][:shown]), "t-SNE": _thousandths(arrays["neighbourhoods"])}
            for variant, arrays in first.items()
        },
    }


def _thousandths(points: NDArray[Any]) -> list[list[int]]:
    """Both axes on one scale, so that distances remain."""
    low, high = points.min(axis=0), points.max(axis=0)
    spread = (high - low).max()
    scale = 1000 / spread if spread > 0 else 0.0
    centred = 500 + (points - (low + high) / 2) * scale
    rounded: list[list[int]] = np.rint(centred).astype(int).tolist()
    return rounded
