"""The report's charts, as PNG bytes from arrays: the same bytes for the same arrays.

Each is narrow enough to be read on a phone.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

# Okabe & Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# How many names a legend may have in one column inside the axes, in two, and in a column beside them.
NAMES_IN_A_COLUMN, NAMES_INSIDE, NAMES_BESIDE = 5, 10, 16
# With more classes neither their colours can be told apart nor the numbers of their confusions be read.
LEGIBLE_CLASSES = 20

STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names of classes may hold dollar signs
    "figure.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

History = Mapping[str, Sequence[float]]
"""The columns of a run's history."""


def as_png(figure: Figure) -> bytes:
    """The figure, which is closed."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


def colour(variant: str, variants: Sequence[str]) -> str:
    """The colour that a variant has in every chart, by its place among all `variants`."""
    return COLOURS[variants.index(variant) % len(COLOURS)]


def class_colours(classes: int) -> NDArray[np.float64]:
    """A colour a class, `[C, 4]`; the same for all where there are too many to tell apart."""
    if classes > LEGIBLE_CLASSES:
        return np.tile(plt.get_cmap("tab10")([0]), (classes, 1))
    colours: NDArray[np.float64] = plt.get_cmap("tab10" if classes <= 10 else "tab20")(range(classes))
    return colours


def _band(axes: Axes, runs: Sequence[Sequence[float]], label: str, colour: str, style: str = "-") -> None:
    """The mean over seeds as a line, and the range over seeds as a band: at each epoch, over those that came so far."""
    of_epochs = [np.asarray([value for value in values if value is not None]) for values in zip_longest(*runs)]
    epochs = np.arange(1, len(of_epochs) + 1)
    mean, low, high = ([function(values) for values in of_epochs] for function in (np.mean, np.min, np.max))
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) <= 30 else {}
    axes.plot(epochs, mean, style, color=colour, label=label, linewidth=1.6, **marker)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@rc_context(STYLE)
def loss_curve(variant: str, runs: Sequence[History], unit: str) -> bytes:
    """A variant's own loss by epoch, in that unit, training and validation."""
    figure, axes = plt.subplots(figsize=(4, 2.9))
    _band(axes, [run["train_loss"] for run in runs], "training", COLOURS[1], "--")
    if "validation_loss" in runs[0]:
        _band(axes, [run["validation_loss"] for run in runs], "validation", COLOURS[0])
    axes.set(title=variant, xlabel="epoch", ylabel=f"loss [{unit} an image]")
    axes.legend()
    return as_png(figure)


@rc_context(STYLE)
def error_curves(curves: Mapping[str, Sequence[History]]) -> bytes | None:
    """The validation reconstruction MSE by epoch, of each variant's runs; None without a validation split."""
    key = "validation_reconstruction_mse"
    if any(key not in run for runs in curves.values() for run in runs):
        return None
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    for variant, runs in curves.items():
        _band(axes, [run[key] for run in runs], variant, colour(variant, list(curves)), _dashes(variant, list(curves)))
    axes.set(xlabel="epoch", ylabel="validation reconstruction MSE [a pixel]", ylim=(0, None))
    _legend(axes)
    return as_png(figure)


@rc_context(STYLE)
def k_curves(
    bounds: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]], variants: Sequence[str], title: str = ""
) -> bytes:
    """The bound against K, from each variant's numbers of samples and, for each seed, its bounds at them, in nats.

    Colours are those that the variants have among all `variants`.
    """
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    for variant, (samples, runs) in bounds.items():
        values, ink, line = np.asarray(runs), colour(variant, variants), _dashes(variant, variants)
        axes.plot(samples, values.mean(axis=0), f"o{line}", color=ink, label=variant, linewidth=1.6, markersize=4)
        axes.fill_between(samples, values.min(axis=0), values.max(axis=0), color=ink, alpha=0.2, linewidth=0)
    axes.set(
        title=title,
        xscale="log",
        xlabel="K, importance samples an image",
        ylabel="bound on log p(x) [nats an image]",
    )
    # By themselves ticks would be powers in TeX, and none might stand between two of them.
    axes.xaxis.set_major_locator(FixedLocator(_apart({k for samples, _ in bounds.values() for k in samples})))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    _legend(axes)
    return as_png(figure)


def _dashes(variant: str, variants: Sequence[str]) -> str:
    """Of lines with the same colour each has its own dashes."""
    return DASHES[variants.index(variant) // len(COLOURS) % len(DASHES)]


def _legend(axes: Axes, **look: Any) -> None:
    """The names of all lines: inside, or beside the axes where they are too many."""
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) <= NAMES_INSIDE:
        axes.legend(ncols=1 if len(handles) <= NAMES_IN_A_COLUMN else 2, **look)
        return
    columns = -(-len(handles) // NAMES_BESIDE)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.set_figwidth(figure.get_figwidth() + 1.7 * columns)
    figure.legend(handles=handles, loc="outside right upper", ncols=columns, fontsize=8, handlelength=3.5)


def _apart(values: set[float]) -> list[float]:
    """The largest value, and of the others those whose labels do not touch on a logarithmic axis."""
    kept: list[float] = []
    for value in sorted(values, reverse=True):
        if not kept or 1.6 * value <= kept[-1]:
            kept.append(value)
    return kept[::-1]


@rc_context(STYLE)
def rate_distortion(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]], variants: Sequence[str], title: str = ""
) -> bytes:
    """Distortion against rate, from each variant's runs' rates and distortions, in nats (Alemi et al. 2018).

    Lines join points of equal ELBO; colours are those that the variants have among all `variants`.
    """
    figure, axes = plt.subplots(figsize=(5.2, 4))
    for variant, (rates, distortions) in points.items():
        ink = colour(variant, variants)
        marker = MARKERS[sum(divmod(variants.index(variant), len(COLOURS))) % len(MARKERS)]
        axes.scatter(rates, distortions, s=36, c=ink, marker=marker, alpha=0.85, linewidths=0, label=variant)
    axes.margins(0.15)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    sums = MaxNLocator(7).tick_values(left + bottom, right + top)
    for total in sums:
        axes.plot([left, right], [total - left, total - right], color="0.75", linewidth=0.8, zorder=0)
        at_top = (total - top, top) if total - top > left else (left, total - left)
        # The words stand below the point, and inside the axes.
        if left <= at_top[0] <= right and bottom + 0.06 * (top - bottom) <= at_top[1] <= top:
            words = f"ELBO {0 - total:.4g}".replace("-", "−")
            axes.annotate(words, at_top, (3, -9), textcoords="offset points", fontsize=7.5, color="0.45")
    axes.set(
        title=title,
        xlim=(left, right),
        ylim=(bottom, top),
        xlabel="rate KL(q(z|x) ‖ p(z)) [nats an image]",
        ylabel="distortion −E log p(x|z) [nats an image]",
    )
    _legend(axes, frameon=True, framealpha=0.9, edgecolor="none")
    return as_png(figure)


@rc_context({**STYLE, "axes.grid": False})
def confusion(variant: str, matrix: NDArray[Any], classes: Sequence[str]) -> bytes:
    """How a variant's probe reads each class, `[C, C]`: rows are true classes, shares of a row in per cent."""
    size = 1.4 + 0.32 * len(classes)
    figure, axes = plt.subplots(figsize=(size, size))
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(matrix):
        if share >= 0.5:
            ink = "white" if share > 55 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(places, classes, fontsize=8)
    axes.set(title=variant, xlabel="read by the probe", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return as_png(figure)


@rc_context({**STYLE, "axes.grid": False})
def latent_map(variant: str, points: NDArray[Any], labels: NDArray[Any], classes: Sequence[str]) -> bytes:
    """A variant's codes of the test set on a plane, `[N, 2]`, coloured by their class, `labels` `[N]`."""
    figure, axes = plt.subplots(figsize=(4, 4.2))
    order = np.random.default_rng(0).permutation(len(points))  # so that no class hides the others
    colours = class_colours(len(classes))
    axes.scatter(points[order, 0], points[order, 1], s=2, c=colours[labels[order]], alpha=0.5, linewidths=0)
    axes.set(title=variant, xlabel="first principal component of the codes", ylabel="second")
    if len(classes) <= LEGIBLE_CLASSES:
        for each, name in zip(colours, classes, strict=True):
            axes.plot([], [], "o", color=each, markersize=4, label=name)
        tight: dict[str, Any] = {"fontsize": 7.5, "handletextpad": 0, "columnspacing": 0.8, "borderpad": 0}
        figure.legend(loc="outside lower center", ncols=4, **tight)
    return as_png(figure)


@rc_context(STYLE)
def batch_losses(losses: Sequence[float], per_epoch: float) -> bytes:
    """The loss in nats of every batch of one run, summed over its images; so many batches `per_epoch`."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    epochs = np.arange(1, len(losses) + 1) / per_epoch
    axes.plot(epochs, losses, color=COLOURS[0], linewidth=0.6)
    axes.set(xlabel="epoch", ylabel="loss of a batch\n[nats, sum over its images]")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return as_png(figure)
