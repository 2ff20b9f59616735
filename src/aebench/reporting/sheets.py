"""Rows of images as PNG bytes: with names for a file of their own, and without for a page that has its own words."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rc_context
from numpy.typing import NDArray

from aebench.reporting.figures import STYLE, as_png

Rows = Sequence[tuple[str, NDArray[Any]]]
"""Rows of images, each a name, which may be empty, and images `[columns, C, H, W]` in [0, 1]."""


@rc_context({**STYLE, "axes.grid": False})
def image_rows(rows: Rows, headings: Sequence[str] = ()) -> bytes:
    """Rows of images, named at the left; `headings` name the columns."""
    images = np.stack([row for _, row in rows])
    lines, columns, _, height, width = images.shape
    gap = _gap(height)
    figure, axes = plt.subplots(figsize=(1.3 + 0.85 * columns, 0.3 + 0.85 * lines))
    axes.imshow(_apart(images), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks((np.arange(lines) + 0.5) * (height + gap) - gap / 2 - 0.5, [name for name, _ in rows])
    axes.set_xticks((np.arange(len(headings)) + 0.5) * (width + gap) - gap / 2 - 0.5, headings, fontsize=8)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    figure.set_layout_engine("constrained", w_pad=0.1)
    return as_png(figure)


def strip(row: NDArray[Any]) -> bytes:
    """One row of images `[columns, C, H, W]`, a little apart, without words."""
    return _drawn(_apart(row[None]))


def contact_sheet(images: NDArray[Any], enlarge: int = 2) -> bytes:
    """Images `[rows, columns, C, H, W]` in [0, 1] side by side without words, `enlarge` times as large."""
    return _drawn(_sheet(images).repeat(enlarge, axis=0).repeat(enlarge, axis=1))


def address(png: bytes) -> str:
    """A picture as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _gap(height: int) -> int:
    return max(1, height // 14)


def _apart(images: NDArray[Any]) -> NDArray[Any]:
    """`[rows, columns, C, H, W]` as one image, with white between the images."""
    gap = _gap(images.shape[-2])
    padding = ((0, 0), (0, 0), (0, 0), (0, gap), (0, gap))
    return _sheet(np.pad(images, padding, constant_values=1))[:-gap, :-gap]


def _sheet(images: NDArray[Any]) -> NDArray[Any]:
    """`[rows, columns, channels, H, W]` as one image: `[rows·H, columns·W]` in grey or `[rows·H, columns·W, 3]`."""
    rows, columns, channels, height, width = images.shape
    sheet = images.clip(0, 1).transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return sheet if channels == 3 else sheet[..., 0]


def _drawn(sheet: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    plt.imsave(content, sheet, cmap="gray", vmin=0, vmax=1, format="png", metadata={"Software": None})
    return content.getvalue()
