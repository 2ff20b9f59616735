"""The report's pictures, as PNG bytes from arrays: the same bytes for the same arrays."""

import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

# Okabe & Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
CLASS_COLOURS = plt.get_cmap("tab10")(range(10))

STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names of classes may hold dollar signs
    "figure.dpi": 120,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

Curves = Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
"""By variant, for each seed the columns of its history."""


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


def _band(axes: Axes, runs: Sequence[Sequence[float]], label: str, colour: str, style: str = "-") -> None:
    """The mean over seeds as a line, and the range over seeds as a band: at each epoch, over those that came so far."""
    of_epochs = [np.asarray([value for value in values if value is not None]) for values in zip_longest(*runs)]
    epochs = np.arange(1, len(of_epochs) + 1)
    mean, low, high = ([function(values) for values in of_epochs] for function in (np.mean, np.min, np.max))
    axes.plot(epochs, mean, style, color=colour, label=label, linewidth=1.8, marker="o", markersize=3)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def loss_curves(curves: Curves) -> bytes:
    """For each variant its own loss by epoch, training and validation; each has a panel, since their scales differ."""
    with plt.rc_context(STYLE):
        columns = min(4, len(curves))
        lines = -(-len(curves) // columns)
        figure, grid = plt.subplots(lines, columns, figsize=(3.1 * columns, 2.7 * lines), squeeze=False)
        for axes, (variant, runs) in zip(grid.flat, curves.items(), strict=False):
            unit = "nats an image" if "train_rate_nats" in runs[0] else "squared error an image"
            _band(axes, [run["train_loss"] for run in runs], "training", COLOURS[1], "--")
            if "validation_loss" in runs[0]:
                _band(axes, [run["validation_loss"] for run in runs], "validation", COLOURS[0])
            axes.set(title=variant, xlabel="epoch", ylabel=f"loss [{unit}]")
        for axes in grid.flat[len(curves) :]:
            axes.set_axis_off()
        grid.flat[0].legend()
        return _png(figure)


def error_curves(curves: Curves) -> bytes | None:
    """The validation reconstruction MSE by epoch, which means the same for all; None without a validation split."""
    key = "validation_reconstruction_mse"
    if any(key not in run for runs in curves.values() for run in runs):
        return None
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 3.6))
        for position, (variant, runs) in enumerate(curves.items()):
            _band(axes, [run[key] for run in runs], variant, COLOURS[position % len(COLOURS)])
        axes.set(xlabel="epoch", ylabel="validation reconstruction MSE [a pixel]", ylim=(0, None))
        axes.legend()
        return _png(figure)


def k_curves(bounds: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]], variants: Sequence[str]) -> bytes:
    """The bound against K, from each variant's numbers of samples and, for each seed, its bounds at them, in nats.

    Colours are those that the variants have among all `variants`.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 3.6))
        for variant, (samples, runs) in bounds.items():
            values, colour = np.asarray(runs), COLOURS[variants.index(variant) % len(COLOURS)]
            axes.plot(
                samples, values.mean(axis=0), color=colour, label=variant, linewidth=1.8, marker="o", markersize=4
            )
            axes.fill_between(samples, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        axes.set(xscale="log", xlabel="K, importance samples an image", ylabel="bound on log p(x) [nats an image]")
        # By themselves they would be powers in TeX, which names of classes with a dollar sign forbid to parse.
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend()
        return _png(figure)


def rate_distortion(points: Mapping[str, tuple[Sequence[float], Sequence[float]]], variants: Sequence[str]) -> bytes:
    """Distortion against rate, from each variant's runs' rates and distortions, in nats (Alemi et al. 2018).

    Lines join points of equal ELBO; colours are those that the variants have among all `variants`.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 4.4))
        for variant, (rates, distortions) in points.items():
            position = variants.index(variant)
            colour, marker = COLOURS[position % len(COLOURS)], MARKERS[position % len(MARKERS)]
            axes.scatter(rates, distortions, s=36, marker=marker, color=colour, label=variant, alpha=0.85, linewidths=0)
        axes.margins(0.15)
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        sums = MaxNLocator(7).tick_values(left + bottom, right + top)
        for total in sums:
            axes.plot([left, right], [total - left, total - right], color="0.75", linewidth=0.8, zorder=0)
            at_top = (total - top, top) if total - top > left else (left, total - left)
            if left <= at_top[0] <= right and bottom <= at_top[1] <= top:
                axes.annotate(
                    f"ELBO {-total:.4g}".replace("-", "−"),
                    at_top,
                    fontsize=8,
                    color="0.45",
                    rotation=0,
                    xytext=(3, -9),
                    textcoords="offset points",
                )
        axes.set(
            xlim=(left, right),
            ylim=(bottom, top),
            xlabel="rate KL(q(z|x) ‖ p(z)) [nats an image]",
            ylabel="distortion −E log p(x|z) [nats an image]",
        )
        axes.legend(loc="upper right")
        return _png(figure)


def confusions(matrices: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> bytes:
    """For each variant how its probe reads each class, `[C, C]`: rows are true classes, shares of a row in per cent."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        columns = min(2, len(matrices))
        lines = -(-len(matrices) // columns)
        size = 1.6 + 0.36 * len(classes)
        figure, grid = plt.subplots(lines, columns, figsize=(size * columns, size * lines), squeeze=False)
        for axes, (variant, matrix) in zip(grid.flat, matrices.items(), strict=False):
            axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
            for (row, column), share in np.ndenumerate(matrix):
                if share >= 0.5:
                    colour = "white" if share > 55 else "black"
                    axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
            places = range(len(classes))
            axes.set_xticks(places, classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
            axes.set_yticks(places, classes, fontsize=8)
            axes.set(title=variant, xlabel="read by the probe", ylabel="true class")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        for axes in grid.flat[len(matrices) :]:
            axes.set_axis_off()
        return _png(figure)


def image_rows(rows: Mapping[str, NDArray[Any]], headings: Sequence[str] = ()) -> bytes:
    """Rows of images, each `[columns, C, H, W]` in [0, 1], named at the left; `headings` name the columns."""
    images = np.stack(list(rows.values()))
    lines, columns, _, height, width = images.shape
    gap = max(1, height // 14)
    padding = ((0, 0), (0, 0), (0, 0), (0, gap), (0, gap))
    sheet = _sheet(np.pad(images, padding, constant_values=1))[:-gap, :-gap]
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(figsize=(1.3 + 0.85 * columns, 0.3 + 0.85 * lines))
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks((np.arange(lines) + 0.5) * (height + gap) - gap / 2 - 0.5, list(rows))
        axes.set_xticks((np.arange(len(headings)) + 0.5) * (width + gap) - gap / 2 - 0.5, headings, fontsize=8)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        figure.set_layout_engine("constrained", w_pad=0.1)
        return _png(figure)


def contact_sheet(images: NDArray[Any], enlarge: int = 2) -> bytes:
    """Images `[rows, columns, C, H, W]` in [0, 1] side by side without words, `enlarge` times as large."""
    sheet = _sheet(images).repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    content = io.BytesIO()
    plt.imsave(content, sheet, cmap="gray", vmin=0, vmax=1, format="png", metadata={"Software": None})
    return content.getvalue()


def _sheet(images: NDArray[Any]) -> NDArray[Any]:
    """`[rows, columns, channels, H, W]` as one image: `[rows·H, columns·W]` in grey or `[rows·H, columns·W, 3]`."""
    rows, columns, channels, height, width = images.shape
    sheet = images.clip(0, 1).transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return sheet if channels == 3 else sheet[..., 0]


def batch_losses(losses: Sequence[float], per_epoch: float) -> bytes:
    """The loss in nats of every batch of one run, summed over its images; so many batches `per_epoch`."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 3.6))
        epochs = np.arange(1, len(losses) + 1) / per_epoch
        axes.plot(epochs, losses, color=COLOURS[0], linewidth=0.6)
        axes.set(xlabel="epoch", ylabel="loss of a batch\n[nats, sum over its images]")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _png(figure)


def latent_maps(maps: Mapping[str, NDArray[Any]], labels: NDArray[Any], classes: Sequence[str]) -> bytes:
    """For each variant the test set's codes on a plane, `[N, 2]`, coloured by their class, `labels` `[N]`."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        columns = min(2, len(maps))
        lines = -(-len(maps) // columns)
        figure, grid = plt.subplots(lines, columns, figsize=(4.6 * columns, 4.2 * lines), squeeze=False)
        for axes, (variant, points) in zip(grid.flat, maps.items(), strict=False):
            order = np.random.default_rng(0).permutation(len(points))  # so that no class hides the others
            colours = CLASS_COLOURS[labels[order] % len(CLASS_COLOURS)]
            axes.scatter(points[order, 0], points[order, 1], s=2, c=colours, alpha=0.5, linewidths=0)
            axes.set(title=variant, xlabel="first principal component of the codes", ylabel="second")
        for axes in grid.flat[len(maps) :]:
            axes.set_axis_off()
        handles = [
            Line2D([], [], marker="o", linestyle="", color=CLASS_COLOURS[i % len(CLASS_COLOURS)], label=name)
            for i, name in enumerate(classes)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, markerscale=1)
        return _png(figure)
