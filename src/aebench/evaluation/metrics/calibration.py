"""How far the class probabilities q(y|x) of a model with labels can be believed."""

from typing import TYPE_CHECKING

import numpy as np

from aebench.evaluation.metrics import Measured, Metric, Nats, Protocol, same_supervision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aebench.evaluation.context import Context

OPTIONAL = True
# Bins of the calibration error, of equal width (Guo et al. 2017, §5, has as many).
BINS = 15


def of_label(protocol: Protocol) -> Nats:
    """Comparability of log q(y|x), a probability of the label, whatever the variant's p(x|z)."""
    return Nats("probability of the label", protocol["binarization"], "q(y|x)", None)


METRICS = (
    Metric(
        *("generative_calibration_error", "generative classifier's calibration error", "%", "↓", same_supervision),
        average=None,
        scale=100,
        digits=1,
        place=330,
    ),
    Metric(
        *("generative_brier_score", "generative classifier's Brier score", "", "↓", same_supervision),
        digits=3,
        place=340,
    ),
    Metric(
        *("generative_log_loss_nats", "generative classifier's log loss", "nats", "↓", of_label), digits=3, place=350
    ),
)


def not_defined(context: "Context") -> dict[str, str]:
    """All of them without a prior, and without a label."""
    reason = context.no_prior or ("" if context.model.conditional_parts else "does not condition on the label")
    return dict.fromkeys((metric.name for metric in METRICS), reason) if reason else {}


def measure(context: "Context") -> Measured:
    """The calibration error of the run, and of each image the Brier score (Brier 1950) and −log q(y|x)."""
    import torch

    from aebench.evaluation.context import batches
    from aebench.models.labels import class_log_posterior

    model, test = context.latent_variable_model, context.splits.test
    log_q_y = torch.cat([class_log_posterior(model, x) for _, x in batches(test)]).double().cpu().numpy()
    labels = test.labels.cpu().numpy()
    shares = np.exp(log_q_y)
    return Measured(
        {
            "generative_brier_score": np.square(shares - np.eye(shares.shape[1])[labels]).sum(1),
            "generative_log_loss_nats": -log_q_y[np.arange(len(labels)), labels],
        },
        {"generative_calibration_error": calibration_error(shares, labels)},
    )


def calibration_error(shares: "NDArray[np.float64]", labels: "NDArray[np.int64]", bins: int = BINS) -> float:
    """Σ_m (N_m/N) |accuracy_m − confidence_m| over bins of the confidence, in 0..1 (Guo et al. 2017, eq. 3).

    Args:
        shares: q(y|x), `[N, C]`. Its largest value is an image's confidence, and its class the one that is read.
        labels: `[N]`.
        bins: of equal width; bin m has confidences in ((m − 1)/bins, m/bins].
    """
    confidence, right = shares.max(1), shares.argmax(1) == labels
    of_image = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    excess = np.bincount(of_image, right - confidence, minlength=bins)
    return float(np.abs(excess).sum() / len(labels))
