"""All variants at a glance: each main metric's means and intervals, as dots and bars."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from aebench.evaluation.metrics import Metric, Nats, main_metrics
from aebench.reporting import fonts
from aebench.reporting.figures import COLOURS, STYLE, as_png
from aebench.reporting.results import Cell

COLUMNS = 3
# So many letters of a title stand in one line.
TITLE = 27
# By groups of variants that are compared with each other; and of what is compared with nothing.
SHAPES, ALONE = "osD^vP", "o"
SIGNS = "●■◆▲▼✚"
BETTER = {"↑": "more is better →", "↓": "← less is better", "": "neither more nor less is better"}


class Dot(NamedTuple):
    """A variant's mean with its interval. `group`: it is compared with dots of the same one; None: with no other."""

    mean: float
    low: float
    high: float
    group: int | None
    leads: bool


@dataclass(frozen=True)
class Chart:
    """One metric of the variants whose figures may stand on one axis.

    `lines` has all variants, also those without a dot here, which have the reason in place of it.
    """

    name: str
    title: str
    better: str
    lines: Mapping[str, Dot | str]

    @property
    def dots(self) -> dict[str, Dot]:
        """What there is to draw."""
        return {variant: dot for variant, dot in self.lines.items() if isinstance(dot, Dot)}

    @property
    def warning(self) -> str:
        """Which of its dots are not compared, although they stand on one axis."""
        groups = {dot.group for dot in self.dots.values()}
        signs = [SIGNS[group % len(SIGNS)] for group in sorted(group for group in groups if group is not None)]
        remarks = [f"{' and '.join(signs)} are not compared"] if len(signs) > 1 else []
        if None in groups and len(self.dots) > 1:
            remarks.append("○ is compared with none" if signs else "no two are compared")
        return "; ".join(remarks)


def charts(cells: Sequence[Cell], leaders: Mapping[str, Collection[str]]) -> list[Chart]:
    """A chart for each main metric that any variant has, and one for each likelihood where these differ.

    Args:
        cells: of one data set.
        leaders: by metric the variants that are better than every other one that they are compared with.
    """
    return [
        chart for metric in main_metrics().values() for chart in _of_metric(metric, cells, leaders.get(metric.name, ()))
    ]


def _of_metric(metric: Metric, cells: Sequence[Cell], leaders: Collection[str]) -> Iterator[Chart]:
    defined = [cell for cell in cells if metric.name in cell.metrics["summary"]]
    key = {cell.variant: metric.group(cell.metrics["protocol"]) for cell in defined}
    compared = [one for one in dict.fromkeys(key.values()) if list(key.values()).count(one) > 1]
    lines: dict[str, Dot | str] = {cell.variant: "not defined" if cell.seeds else "all runs failed" for cell in cells}
    for cell in defined:
        summary = cell.metrics["summary"][metric.name]
        low, high = summary.get("ci95") or summary.get("ci95_images") or (summary["mean"], summary["mean"])
        group = compared.index(key[cell.variant]) if key[cell.variant] in compared else None
        mean, low, high = (metric.scale * value for value in (summary["mean"], low, high))
        lines[cell.variant] = Dot(mean, low, high, group, cell.variant in leaders)
    # Nats under two likelihoods are two quantities, which may lie far apart; other figures that are not compared are of
    # one quantity, and differ in how they came about.
    kind_of = {variant: one if isinstance(one, Nats) else None for variant, one in key.items()}
    kinds = list(dict.fromkeys(kind_of.values()))
    for kind in kinds:
        here = {variant for variant, one in kind_of.items() if one == kind}
        yield Chart(
            metric.name + (f"-{1 + kinds.index(kind)}" if len(kinds) > 1 else ""),
            metric.title
            + (f", {_difference(kind, kinds)}" if len(kinds) > 1 else "")
            + (f" [{metric.unit}]" if metric.unit else ""),
            BETTER[metric.better],
            {name: line if name in here or name not in key else "in another panel" for name, line in lines.items()},
        )


def _difference(one: Nats | None, kinds: Sequence[Hashable]) -> str:
    """What sets one kind of nats apart from the others."""
    if one is None:
        return "others"
    others = [kind for kind in kinds if isinstance(kind, Nats) and kind != one]
    return ", ".join(str(value) for place, value in enumerate(one) if any(kind[place] != value for kind in others))


def draw_all(shown: Sequence[Chart]) -> bytes:
    """All charts in one picture."""
    lines = -(-len(shown) // COLUMNS)
    with fonts.drawing(shown[0].lines), rc_context(STYLE):
        size = (3.1 * COLUMNS + _for_names(shown[0]), _height(shown[0]) * lines)
        figure, grid = plt.subplots(lines, COLUMNS, figsize=size, squeeze=False, sharey=True)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        for axes, chart in zip(grid.flat, shown, strict=False):
            _draw(axes, chart)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        return as_png(figure)


@rc_context(STYLE)
def draw(chart: Chart) -> bytes:
    """One chart as a picture of its own."""
    figure, axes = plt.subplots(figsize=(3.3 + _for_names(chart), _height(chart)))
    _draw(axes, chart)
    return as_png(figure)


def _height(chart: Chart) -> float:
    return 0.95 + 0.2 * len(chart.lines)


def _for_names(chart: Chart) -> float:
    """How many inches names need beyond those of the usual length."""
    return 0.075 * max(0, max(map(len, chart.lines)) - 20)


def _draw(axes: Axes, chart: Chart) -> None:
    """Variants from top to bottom."""
    for place, (variant, line) in enumerate(chart.lines.items()):
        if isinstance(line, str):
            across = axes.get_yaxis_transform()
            axes.text(0.02, place, line, transform=across, va="center", color="0.5", fontsize=7.5)
            continue
        colour = COLOURS[0] if line.leads else "0.3"
        shape, face = (ALONE, "white") if line.group is None else (SHAPES[line.group % len(SHAPES)], colour)
        axes.plot([line.low, line.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(line.mean, place, shape, color=colour, markerfacecolor=face, markersize=5.5, label=variant)
    axes.set_yticks(range(len(chart.lines)), list(chart.lines))
    axes.set_ylim(len(chart.lines) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(fill(chart.title, TITLE), loc="left", fontweight="bold", fontsize=9)
    axes.set_xlabel(f"{chart.better}\n{chart.warning or ' '}", fontsize=8)  # always two lines, so that axes align
