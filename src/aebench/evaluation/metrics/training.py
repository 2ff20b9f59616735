"""How training ended: after how many epochs, and whether the run was still improving."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Measured, Metric, nothing

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

METRICS = (
    Metric("epochs_trained", "epochs trained", "epochs", "", nothing, average=None, digits=1, place=260),
    Metric("still_improving", "still improving", "%", "", nothing, average=None, scale=100, digits=0, place=270),
)


def not_defined(context: "Context") -> dict[str, str]:
    """Both without a history, and the second without a validation loss in it."""
    if not context.history:
        return dict.fromkeys(("epochs_trained", "still_improving"), "the history of its training is not known")
    if "validation_loss" not in context.history[0]:
        return {"still_improving": "has no validation split, on which it would be seen"}
    return {}


def measure(context: "Context") -> Measured:
    """How many epochs the run took; and 1 where it was still improving at the end, else 0."""
    figures = {"epochs_trained": float(len(context.history))}
    losses = [row["validation_loss"] for row in context.history if "validation_loss" in row]
    if losses:
        figures["still_improving"] = float(still_improving(losses, context.epochs))
    return Measured(of_run=figures)


def still_improving(losses: Sequence[float], epochs: int) -> bool:
    """Whether the lowest loss is of the last tenth of the epochs, at least the last one, and no rule ended the run.

    Args:
        losses: on validation images, after each epoch; at least one.
        epochs: how many there were to be; a run with fewer was ended by its stopping rule.
    """
    lowest, last = losses.index(min(losses)) + 1, len(losses)
    return last >= epochs and lowest > last - max(1, last // 10)
