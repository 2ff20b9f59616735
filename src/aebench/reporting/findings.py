"""What a comparison shows and how far it can be trusted, in words."""

from collections.abc import Iterable, Iterator, Sequence

from aebench.evaluation.diagnostics import pareto_k_limit
from aebench.evaluation.metrics import main_metrics, metrics
from aebench.evaluation.statistics import NEEDS_SEEDS
from aebench.reporting.pairs import SIGNIFICANT, Pair, common_seeds, verdicts
from aebench.reporting.results import Cell, in_its_unit

# Shares of images below this are no cause for a warning.
NOTICEABLE = 0.05


def differences(cells: Sequence[Cell], compared: Sequence[Pair]) -> list[str]:
    """Which variant is better than which, a line a metric of the main table."""
    if len(common_seeds(cells)) < 2:
        return [f"Which variant is better than which: not defined, {NEEDS_SEEDS}."]
    shown = main_metrics()
    return [f"{shown[name].title}: {words}." for name, words in verdicts(compared).items() if name in shown]


def in_short(cells: Sequence[Cell], compared: Sequence[Pair]) -> list[str]:
    """Which variant is best at what and how sure that is, a sentence a metric and group of variants compared.

    There is nothing to say of one variant.
    """
    if len(cells) < 2:
        return []
    if len(common_seeds(cells)) < 2:
        return [f"Which variant is best at what: not defined, {NEEDS_SEEDS}."]
    lines = []
    for name, metric in main_metrics().items():
        of_metric = [pair for pair in compared if pair.metric == name]
        sign = 1 if metric.better == "↑" else -1
        of_variant = {cell.variant: cell.metrics["summary"].get(name, {}).get("mean") for cell in cells}
        for group in _groups(of_metric):
            best = max(group, key=lambda variant: sign * of_variant[variant])
            beaten = {pair.better[1] for pair in of_metric if pair.better and pair.better[0] == best}
            open_to = [variant for variant in group if variant not in {best, *beaten}]
            value = in_its_unit(of_variant[best], metric)
            unit = f" × {metric.unit}" if metric.scale > 100 else f" {metric.unit}".rstrip()
            of = f" of {', '.join(group)}" if len(group) < len(cells) else ""
            line = f"{metric.title}: {best} is best{of} ({value}{unit})"
            if not open_to:
                line += ", and its lead over every other is significant"
            elif len(open_to) == len(group) - 1:
                line += ", but its lead over no other is shown"
            else:
                line += f", but its lead over {' and '.join(open_to)} is not shown"
            lines.append(line + ".")
    return lines


def _groups(of_metric: Sequence[Pair]) -> list[list[str]]:
    """Variants that are compared with each other in one metric."""
    groups: list[list[str]] = []
    for pair in of_metric:
        for group in groups:
            if pair.a in group or pair.b in group:
                group += [name for name in (pair.a, pair.b) if name not in group]
                break
        else:
            groups.append([pair.a, pair.b])
    return groups


def in_words(cells: Sequence[Cell], compared: Sequence[Pair]) -> list[str]:
    """All findings of one data set, as Markdown: differences, what stands behind them, warnings."""
    behind = [how_compared(compared)] if compared else []
    return [*differences(cells, compared), *behind, *(f"**Caution.** {line}" for line in warnings(cells))]


def how_compared(compared: Sequence[Pair]) -> str:
    """What stands behind the word "better"."""
    seeds = " or ".join(map(str, sorted({pair.seeds for pair in compared})))
    words = (
        f"“Better” means: a difference on the same {seeds} seeds and the same images with "
        f"p < {SIGNIFICANT} after Holm's correction for the pairs compared in that metric, its variance taken over "
        "seeds and over images. All differences with their intervals stand in pairs.csv."
    )
    if of_bounds := _titles(pair for pair in compared if pair.gap is not None):
        words += (
            f" In {of_bounds} the difference must also exceed the bounds' gap, the sum of how far each of the two "
            "estimates may lie from what it bounds."
        )
    if of_bounds := _titles(pair for pair in compared if pair.gap_missing):
        words += (
            f" In {of_bounds} the estimator's looseness was not measured for all variants: there a difference may be "
            "the estimator's own, and none is called better."
        )
    return words


def _titles(compared: Iterable[Pair]) -> str:
    return " and ".join(dict.fromkeys(metrics()[pair.metric].title for pair in compared))


def warnings(cells: Sequence[Cell]) -> list[str]:
    """What a reader of one data set's comparison must know of its estimates, a sentence or two each."""
    return [*_failures(cells), *_improving(cells), *_weights(cells), *_collapse(cells)]


def _failures(cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        if not cell.failed:
            continue
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in cell.failed.items())
        left = f"its figures are those of the other {len(cell.seeds)} alone" if cell.seeds else "it has no figures"
        every = "all" if not cell.seeds else f"{len(cell.failed)}"
        yield f"{cell.variant}: {every} of {len(cell.failed) + len(cell.seeds)} runs failed ({reasons}); {left}."


def _improving(cells: Sequence[Cell]) -> Iterator[str]:
    counts = {
        cell.variant: (round(cell.still_improving * len(cell.seeds)), len(cell.seeds)) for cell in cells if cell.seeds
    }
    counted = {variant: count for variant, count in counts.items() if count[0]}
    if not counted:
        return
    if all(improving == seeds for improving, seeds in counts.values()):
        every = "Every run that did not fail" if any(cell.failed for cell in cells) else "Every run"
        which = f"{every} was still improving when its training ended."
    else:
        names = [
            variant if improving == seeds else f"{variant} ({improving} of {seeds} seeds)"
            for variant, (improving, seeds) in counted.items()
        ]
        which = f"Still improving when training ended: {', '.join(names)}."
    yield (
        f"{which} The comparison is one at this budget of training. It does not tell what the variants come to with "
        "more epochs, nor in which order."
    )


def _weights(cells: Sequence[Cell]) -> Iterator[str]:
    evaluation = cells[0].metrics["protocol"]["evaluation"]
    if shares := _noticeable(cells, "pareto_k_unreliable_share"):
        amortised = all(cell.metrics["protocol"]["evaluation"]["proposal"] == "amortised" for cell in cells)
        yield (
            f"log p̂ is loose for many test images: {shares} of them have a Pareto k̂ above the limit for their "
            "number of samples. A few samples carry most of their importance weight. The figure remains a lower bound "
            "on log p(x) in expectation, but more samples would raise it, and its intervals do not tell by how much."
            + (" `evaluation.proposal: laplace` makes the bound tighter." if amortised else "")
        )
    if shares := _noticeable(cells, "expost_pareto_k_unreliable_share"):
        yield (
            f"The ex-post log p̂ is loose for {shares} of its images, whose Pareto k̂ is above "
            f"{pareto_k_limit(evaluation['expost']['importance_samples']):.2f}: a larger "
            "`evaluation.expost.importance_samples` would raise it."
        )


def _noticeable(cells: Sequence[Cell], metric: str) -> str:
    shares = {cell.variant: cell.metrics["summary"].get(metric, {}).get("mean", 0) for cell in cells}
    return ", ".join(f"{100 * share:.0f} % ({name})" for name, share in shares.items() if share > NOTICEABLE)


def _collapse(cells: Sequence[Cell]) -> Iterator[str]:
    where = []
    for cell in cells:
        active = cell.metrics["summary"].get("active_units", {}).get("mean")
        dimensions = cell.metrics["protocol"]["network"]["latent_dim"]
        if active is not None and active <= dimensions - 0.5:
            collapsed = f"{dimensions - active:.1f}".removesuffix(".0")
            where.append(f"{cell.variant} in {'all' if active < 0.5 else collapsed} of {dimensions} latent dimensions")
    if where:
        over_seeds = " (means over seeds)" if any(len(cell.seeds) > 1 for cell in cells) else ""
        yield (
            f"Posterior collapse{over_seeds}: {', '.join(where)}. There the mean of q(z|x) hardly depends on the "
            "image, so the code says next to nothing of it."
        )
