"""Which verdicts of the default benchmark hold when its runs are trained until nothing improves."""

from typing import Any

import copies
import pandas as pd

from aebench.evaluation.metrics import metrics
from aebench.evaluation.statistics import holm
from aebench.reporting.pairs import SIGNIFICANT

OURS, CONVERGED = copies.ROOT / "reports" / "pairs.csv", copies.ROOT / "published" / "converged" / "pairs.csv"
PAIR = ["dataset", "metric", "a", "b"]


def compared(ours: pd.DataFrame, converged: pd.DataFrame) -> pd.DataFrame:
    """The pairs that both benchmarks compare, each with the variant that is better: `better_before`, `better_after`.

    The one may compare more variants than the other, and corrects for more pairs. So p-values are corrected for the
    pairs of both alone, and a verdict may stand here that is none where there are more.

    Args:
        ours, converged: rows of pairs.csv. Where nothing can be compared, `not_defined` says why.

    Returns:
        A row a pair; `what` is "hold", "turn round" (the other variant is better), "lost" (the converged runs show no
        difference), "new" (the default's show none) or "open" (neither's show one).
    """
    both = ours.merge(converged, on=PAIR, suffixes=("_before", "_after"))
    defined = both[both["p_before"].notna() & both["p_after"].notna()]
    joined = defined.assign(**{f"better_{when}": better(defined, when) for when in ("before", "after")})
    return joined.assign(
        what=[what(a, b) for a, b in zip(joined["better_before"], joined["better_after"], strict=True)]
    )


def better(rows: pd.DataFrame, when: str) -> pd.Series:
    """The better variant of each pair, missing where none is: the p-values corrected for these pairs, within the
    bounds' gap as in pairs.csv."""
    p_of_pairs = rows.groupby(["dataset", "metric"], sort=False)[f"p_{when}"]
    p_holm = p_of_pairs.transform(lambda p: pd.Series(holm([*p]), p.index))
    difference, gap = rows[f"difference_{when}"], rows[f"bound_gap_{when}"].fillna(-1.0)
    called = (p_holm < SIGNIFICANT) & (difference.abs() > gap)
    a_is_better = (difference > 0) == (rows["metric"].map(lambda name: metrics()[name].better) == "↑")
    return rows["a"].where(a_is_better, rows["b"]).where(called)


def what(before: Any, after: Any) -> str:
    """What became of one verdict, from the names of the better variants; a missing value where neither is better."""
    if pd.isna(before):
        return "open" if pd.isna(after) else "new"
    if pd.isna(after):
        return "lost"
    return "hold" if before == after else "turn round"


def sentence(both: pd.DataFrame) -> str:
    """How many of the default's verdicts hold, and which turn round."""
    counts = both["what"].value_counts()
    hold, lost, turned = (int(counts.get(name, 0)) for name in ("hold", "lost", "turn round"))
    of_metric = both[both["what"] == "turn round"].groupby("metric", sort=False)
    names = [f"{grouped(rows)} in {metrics()[str(metric)].title}" for metric, rows in of_metric]
    which = f" ({'; '.join(names)})" if names else ""
    return (
        f"Of the {hold + lost + turned} verdicts of the default comparison, {hold} hold there too. "
        f"No longer significant: {lost or 'none'}. Turned round: {turned or 'none'}{which}."
    )


def table(both: pd.DataFrame) -> str:
    """A row a metric: which verdicts hold, turn round, are lost, and which are new."""
    heads = {"hold": "hold", "turn round": "turn round", "lost": "lost", "new": "new when converged"}
    lines = [f"| metric | {' | '.join(heads.values())} |", f"| --- |{' --- |' * len(heads)}"]
    for metric, rows in both.groupby("metric", sort=False):
        cells = [grouped(rows[rows["what"] == kind]) for kind in heads]
        title = metrics()[str(metric)].title.replace("|", r"\|")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def grouped(rows: pd.DataFrame) -> str:
    """`x > y, z`: the variants that are better, each with those that it is better than, at the default's budget where
    that has a verdict."""
    better = rows["better_before"].fillna(rows["better_after"])
    others = rows["a"].where(better != rows["a"], rows["b"])
    return "; ".join(f"{name} > {', '.join(others[better == name])}" for name in better.unique())


def parts() -> dict[str, str]:
    """What README.md and docs/budget.md show, by the names of their marks; nothing where no pair is in both."""
    if not CONVERGED.is_file():
        return {}
    both = compared(pd.read_csv(OURS), pd.read_csv(CONVERGED))
    return {} if both.empty else {"verdicts in a sentence": sentence(both), "verdicts in a table": table(both)}
