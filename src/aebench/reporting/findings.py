"""What a comparison shows and how far it can be trusted, in words."""

from collections.abc import Iterator, Sequence

from aebench.evaluation.diagnostics import pareto_k_limit
from aebench.evaluation.statistics import NEEDS_SEEDS
from aebench.reporting.pairs import SIGNIFICANT, Pair, verdicts
from aebench.reporting.results import Cell
from aebench.reporting.tables import COLUMNS

# Shares of images below this are no cause for a warning.
NOTICEABLE = 0.05


def differences(cells: Sequence[Cell], found: Sequence[Pair]) -> list[str]:
    """Which variant is better than which, a line a metric of the main table."""
    if len(cells[0].seeds) < 2:
        return [f"Which variant is better than which: not defined, {NEEDS_SEEDS}."]
    return [f"{COLUMNS[metric].title}: {words}." for metric, words in verdicts(found).items() if COLUMNS[metric].main]


def in_words(cells: Sequence[Cell], found: Sequence[Pair]) -> list[str]:
    """All findings of one data set: differences, what stands behind them, warnings."""
    behind = [how_compared(len(cells[0].seeds))] if found else []
    return [*differences(cells, found), *behind, *(f"**Caution.** {line}" for line in warnings(cells))]


def how_compared(seeds: int) -> str:
    """What stands behind the word "better"."""
    return (
        f"“Better” means: a difference on the same {seeds} seeds and the same images with p < {SIGNIFICANT} after "
        "Holm's correction for the pairs compared in that metric, its variance taken over seeds and over images. All "
        "differences with their intervals stand in pairs.csv."
    )


def warnings(cells: Sequence[Cell]) -> list[str]:
    """What a reader of one data set's comparison must know of its estimates, a sentence or two each."""
    return [*_weights(cells), *_collapse(cells)]


def _weights(cells: Sequence[Cell]) -> Iterator[str]:
    if shares := _noticeable(cells, "pareto_k_unreliable_share"):
        amortised = all(cell.metrics["protocol"]["evaluation"]["proposal"] == "amortised" for cell in cells)
        yield (
            f"log p̂ is loose for many test images: {shares} of them have a Pareto k̂ above "
            f"{_limit(cells, 'importance_samples')}, the limit for this K. A few samples carry most of their "
            "importance weight. The figure remains a lower bound on log p(x) in expectation, but more samples would "
            "raise it, and its intervals do not tell by how much."
            + (" `evaluation.proposal: refined` makes the bound tighter." if amortised else "")
        )
    if shares := _noticeable(cells, "expost_pareto_k_unreliable_share"):
        yield (
            f"The same holds of the ex-post log p̂: {shares} of its images are above {_limit(cells, 'expost')}; a "
            "larger `evaluation.expost.importance_samples` would raise it."
        )


def _noticeable(cells: Sequence[Cell], metric: str) -> str:
    shares = {cell.variant: cell.metrics["summary"].get(metric, {}).get("mean", 0) for cell in cells}
    return ", ".join(f"{100 * share:.0f} % ({name})" for name, share in shares.items() if share > NOTICEABLE)


def _limit(cells: Sequence[Cell], key: str) -> str:
    samples = cells[0].metrics["protocol"]["evaluation"][key]
    return f"{pareto_k_limit(samples if isinstance(samples, int) else samples['importance_samples']):.2f}"


def _collapse(cells: Sequence[Cell]) -> Iterator[str]:
    found = []
    for cell in cells:
        active = cell.metrics["summary"].get("active_units", {}).get("mean")
        dimensions = cell.metrics["protocol"]["network"]["latent_dim"]
        if active is not None and active <= dimensions - 0.5:
            collapsed = f"{dimensions - active:.1f}".removesuffix(".0")
            found.append(f"{cell.variant} in {'all' if active < 0.5 else collapsed} of {dimensions} latent dimensions")
    if found:
        yield (
            f"Posterior collapse (means over seeds): {', '.join(found)}. There q(z|x) is the prior whatever the image, "
            "and the decoder has learned to ignore them."
        )
