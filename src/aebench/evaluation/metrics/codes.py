"""How well a simple classifier reads the class from codes."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Measured, Metric, same_supervision
from aebench.evaluation.probes import FEW_LABELS, probes, too_few

if TYPE_CHECKING:
    from aebench.evaluation.context import Context


def _accuracy(name: str, title: str, place: int, *, main: bool = False) -> Metric:
    return Metric(name, title, "%", "↑", same_supervision, scale=100, digits=1, main=main, place=place)


METRICS = (
    _accuracy("probe_accuracy", "logistic probe", 60, main=True),
    _accuracy("probe_accuracy_10_labels", "probe, 10 labels", 190),
    _accuracy("probe_accuracy_100_labels", "probe, 100 labels", 70, main=True),
    _accuracy("probe_accuracy_1000_labels", "probe, 1000 labels", 200),
    _accuracy("knn_accuracy", "5-NN", 80, main=True),
)


def not_defined(context: "Context") -> dict[str, str]:
    """The probes from few labels, where so few cannot be drawn by class."""
    labels = context.splits.train.labels.cpu().numpy()
    reasons = {f"probe_accuracy_{few}_labels": too_few(few, labels) for few in FEW_LABELS}
    return {name: reason for name, reason in reasons.items() if reason}


def measure(context: "Context") -> Measured:
    """1 for each test image whose class was read, else 0; from few labels the share of draws in which it was."""
    accuracies, predicted = probes(context.train, context.validation, context.test)
    return Measured(accuracies, arrays={"probe_predictions": predicted})
