"""Which variant is better than which: differences on the same images and seeds, and what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from aebench.evaluation.metrics import main_metrics, metrics
from aebench.evaluation.statistics import NEEDS_SEEDS, Difference, crossed_bootstrap, holm, paired_difference
from aebench.reporting.results import Cell, Results, in_its_unit

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Pair:
    """a − b in one metric, with the p-value adjusted for the pairs compared in it, and a 95 % bootstrap interval.

    Values are in the metric's own unit, whatever the table's scale. `seeds`: how many it was found on. `gap`: how far
    the two variants' bounds may lie from the truth, added up; None where that was not measured, or the metric is no
    bound.
    """

    metric: str
    a: str
    b: str
    difference: Difference
    p_holm: float
    bootstrap: tuple[float, float]
    seeds: int
    gap: float | None = None

    @property
    def gap_missing(self) -> bool:
        """Whether the metric is a bound, and how loose it is was not measured for both variants."""
        return self.gap is None and metrics()[self.metric].looseness is not None

    @property
    def within_gap(self) -> bool:
        """Whether a significant difference is no larger than what the two bounds may lack."""
        return self.p_holm < SIGNIFICANT and self.gap is not None and abs(self.difference.mean) <= self.gap

    @property
    def better(self) -> tuple[str, str] | None:
        """(the better variant, the other), where the corrected p-value is significant and the gap is exceeded.

        Of bounds whose gap is not known none is better: the difference may be the estimators' own.
        """
        if self.p_holm >= SIGNIFICANT or self.within_gap or self.gap_missing:
            return None
        a_is_better = (self.difference.mean > 0) == (metrics()[self.metric].better == "↑")
        return (self.a, self.b) if a_is_better else (self.b, self.a)

    @property
    def verdict(self) -> str:
        """The better variant, or why none is called that."""
        if self.gap is not None and self.within_gap:
            metric = metrics()[self.metric]
            return f"within the bounds' gap of {in_its_unit(self.gap, metric, more=1)} {metric.unit}"
        return self.better[0] if self.better else "not shown"


def compared() -> list[str]:
    """The metrics in which variants are compared: means over images of which more, or less, is better."""
    return [name for name, metric in metrics().items() if metric.compared]


def pairs(cells: Sequence[Cell]) -> list[Pair]:
    """Every comparable pair of one data set's variants in every metric; none where there is one seed.

    Raises:
        DataError: an evaluation is missing or damaged.
    """
    return [pair for metric in compared() for pair in _pairs(metric, cells)]


def _pairs(metric: str, cells: Sequence[Cell]) -> list[Pair]:
    defined = [cell for cell in cells if metric in cell.metrics["summary"] and len(cell.seeds) > 1]
    of = {cell.variant: metrics()[metric].group(cell.metrics["protocol"]) for cell in defined}
    chosen = [(a, b) for a, b in combinations(of, 2) if of[a] == of[b]]
    seeds = common_seeds(defined)
    if not chosen or len(seeds) < 2:
        return []
    values = {cell.variant: cell.values(metric, seeds) for cell in defined}
    resampled = crossed_bootstrap(values)
    differences = [paired_difference(values[a], values[b]) for a, b in chosen]
    return [
        Pair(
            metric,
            a,
            b,
            difference,
            p_holm,
            (float(low), float(high)),
            len(seeds),
            _gap(metric, [cell for cell in defined if cell.variant in (a, b)]),
        )
        for (a, b), difference, p_holm in zip(chosen, differences, holm([each.p for each in differences]), strict=True)
        for low, high in [np.quantile(resampled[a] - resampled[b], [0.025, 0.975])]
    ]


def _gap(metric: str, cells: Sequence[Cell]) -> float | None:
    """How far the variants' bounds may lie from the truth, added up, in the metric's unit; None where not measured."""
    looseness = metrics()[metric].looseness
    if looseness is None or any(looseness.metric not in cell.metrics["summary"] for cell in cells):
        return None
    measured = [(cell.metrics["summary"][looseness.metric]["mean"], cell.data["shape"]) for cell in cells]
    # A gap near 0 may be estimated below it, which must not make up for the other variant's.
    return float(sum(max(gap, 0) * looseness.scale(shape) for gap, shape in measured))


def common_seeds(cells: Sequence[Cell]) -> list[int]:
    """The seeds that all of `cells` with more than one have: those on which they are compared."""
    several = [cell.seeds for cell in cells if len(cell.seeds) > 1]
    return sorted(set.intersection(*map(set, several))) if several else []


def verdicts(all_pairs: Sequence[Pair]) -> dict[str, str]:
    """For each metric in which variants were compared, in words which is better than which."""
    words = {}
    for metric in compared():
        of_metric = [pair for pair in all_pairs if pair.metric == metric]
        beaten: dict[str, list[str]] = {}
        for winner, loser in filter(None, (pair.better for pair in of_metric)):
            beaten.setdefault(winner, []).append(loser)
        if of_metric:
            best_first = sorted(beaten, key=lambda name: -len(beaten[name]))
            lines = [f"{name} better than {', '.join(beaten[name])}" for name in best_first]
            lines += [f"{pair.a} and {pair.b} differ {pair.verdict}" for pair in of_metric if pair.within_gap]
            words[metric] = "; ".join(lines) or "no difference shown"
    return words


def leaders(all_pairs: Sequence[Pair]) -> dict[str, set[str]]:
    """For each metric the variants that are better than every other one they are compared with in it."""
    leading: dict[str, set[str]] = {}
    for metric in compared():
        of_metric = [pair for pair in all_pairs if pair.metric == metric]
        for name in {name for pair in of_metric for name in (pair.a, pair.b)}:
            own = [pair for pair in of_metric if name in (pair.a, pair.b)]
            if all(pair.better is not None and pair.better[0] == name for pair in own):
                leading.setdefault(metric, set()).add(name)
    return leading


def matrix(all_pairs: Sequence[Pair], variants: Sequence[str]) -> dict[str, dict[str, tuple[list[str], list[str]]]]:
    """For each variant and each other: the main metrics in which it is better, and those in which it is worse."""
    cells: dict[str, dict[str, tuple[list[str], list[str]]]] = {a: {b: ([], []) for b in variants} for a in variants}
    for pair in all_pairs:
        if pair.better and (metric := main_metrics().get(pair.metric)):
            winner, loser = pair.better
            cells[winner][loser][0].append(metric.title)
            cells[loser][winner][1].append(metric.title)
    return cells


def table(by_dataset: Mapping[str, list[Pair]], results: Results) -> pd.DataFrame:
    """One row a data set × metric × pair; for a data set without two common seeds one row, with the reason."""
    columns = ["dataset", "metric", "a", "b", "difference", "ci95_low", "ci95_high", "p", "p_holm",
               "bootstrap_low", "bootstrap_high", "bound_gap", "better", "not_defined"]  # fmt: skip
    lines = [
        [dataset, pair.metric, pair.a, pair.b, pair.difference.mean, pair.difference.low, pair.difference.high,
         pair.difference.p, pair.p_holm, *pair.bootstrap, pair.gap, pair.better[0] if pair.better else None,
         "bound_gap: not measured for both" if pair.gap_missing else None]
        for dataset, pairs_of_dataset in by_dataset.items() for pair in pairs_of_dataset
    ]  # fmt: skip
    lines += [
        [dataset, *[None] * (len(columns) - 2), NEEDS_SEEDS]
        for dataset, cells in results.datasets()
        if len(common_seeds(cells)) < 2
    ]
    return pd.DataFrame(lines, columns=columns)
