"""What is measured, on what, and what of it is not defined for whom."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption, Evaluation, PixelLikelihood, RunConfig
from aebench.data.corruption import apply, draw
from aebench.data.description import Binarization
from aebench.evaluation.diagnostics import FEWEST_SAMPLES
from aebench.evaluation.estimators import drawn_classes, sharing
from aebench.evaluation.probes import FEW_LABELS, too_few
from aebench.models.autoencoder import Autoencoder, LatentVariableModel
from aebench.randomness import generator

PerImage = dict[str, NDArray[np.float64]]

LIKELIHOOD_METRICS = (
    *("elbo_nats", "distortion_nats", "rate_nats", "iw_log_likelihood_nats", "generalisation_gap_nats"),
    *("effective_sample_size", "pareto_k_unreliable_share"),
)
LABEL_METRICS = ("generative_accuracy", "elbo_given_label_nats", "iw_log_likelihood_given_label_nats")
GIVEN_LABEL_METRICS = ("reconstruction_mse_given_label", "denoising_mse_given_label")
EXPOST_METRICS = (
    *("expost_log_likelihood_nats", "expost_effective_sample_size", "expost_pareto_k_unreliable_share"),
    "expost_sigma",
)

ALL_METRICS = (
    *("reconstruction_mse", "reconstruction_bce_nats", "denoising_mse", *GIVEN_LABEL_METRICS),
    *(*LIKELIHOOD_METRICS, *LABEL_METRICS, *EXPOST_METRICS, "active_units"),
    *("probe_accuracy", *(f"probe_accuracy_{labels}_labels" for labels in FEW_LABELS), "knn_accuracy"),
)


def is_median(metric: str) -> bool:
    """Whether a metric with per-image values is their median; all others are means."""
    return metric.endswith("effective_sample_size")


def archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as a NumPy archive: the same bytes for the same values."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def unarchive(content: bytes) -> dict[str, NDArray[Any]]:
    """What `archive` gave."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def corrupted(x: Tensor, corruption: Corruption, first: int = 0) -> Tensor:
    """Test images `[B, D]`, of which the first is number `first`, corrupted: the same for every variant and seed.

    Each image's corruption comes from a generator of its own.
    """
    of_each = (1, x.shape[-1])
    drawn = [draw(corruption, of_each, generator("test", "corruption", first + i)) for i in range(len(x))]
    return apply(x, corruption, torch.cat(drawn).to(x.device))


def not_defined(
    model: Autoencoder, binarization: Binarization, config: Evaluation, train_labels: NDArray[np.int64]
) -> dict[str, str]:
    """The metrics that `model` cannot have under this protocol, each with the reason."""
    reasons = {}

    def no(metrics: Iterable[str], reason: str) -> None:
        reasons.update(dict.fromkeys(metrics, reason))

    if not model.label_enters:
        no((*LABEL_METRICS, *GIVEN_LABEL_METRICS), "does not condition on the label")
    elif not drawn_classes(model):
        no(GIVEN_LABEL_METRICS, "its label enters neither encoder nor decoder")
    if not isinstance(model, LatentVariableModel):
        no((*LIKELIHOOD_METRICS, *LABEL_METRICS), "has no p(z), hence neither a likelihood nor a bound on one")
        no(["active_units"], "has no prior to which a latent dimension could collapse")
    elif sharing(config.importance_samples, drawn_classes(model))[1] < FEWEST_SAMPLES:
        no(["pareto_k_unreliable_share"], f"needs at least {FEWEST_SAMPLES} importance samples")
    if binarization != "none":
        no(EXPOST_METRICS, "is a density, and the pixels are binarised")
    elif config.expost.images == 0:
        no(EXPOST_METRICS, "is turned off (evaluation.expost.images is 0)")
    elif sharing(config.expost.importance_samples, drawn_classes(model))[1] < FEWEST_SAMPLES:
        no(["expost_pareto_k_unreliable_share"], f"needs at least {FEWEST_SAMPLES} importance samples")
    for labels in FEW_LABELS:
        if reason := too_few(labels, train_labels):
            no([f"probe_accuracy_{labels}_labels"], reason)
    return reasons


def protocol(
    binarization: Binarization, config: RunConfig, evaluation: Evaluation, images: int, label_enters: tuple[str, ...]
) -> dict[str, Any]:
    """What the numbers of one variant were measured on, and how."""
    found: dict[str, Any] = {
        "split": "test",
        "images": images,
        "binarization": binarization_note(binarization),
        "validation_fraction": config.data.validation_fraction,
        "selection": config.training.select,
        "training": config.training.model_dump(mode="json"),
        "network": config.network.model_dump(mode="json"),
        "numerics": config.numerics,
        "device": config.device,
        "evaluation": evaluation.model_dump(mode="json"),
        "trained_with_labels": bool(label_enters),
        "probe_codes": "of the clean image, without its label"
        + (", averaged over p(y)" if "posterior" in label_enters else ""),
    }
    if isinstance(config.model, PixelLikelihood):
        likelihood = config.model.likelihood
        found |= {
            "likelihood": likelihood.likelihood,
            "likelihood_note": likelihood.note(binarized=binarization != "none"),
            "importance_samples": evaluation.importance_samples,
            "proposal": PROPOSALS[evaluation.proposal],
        }
    if label_enters:
        found["label_of_the_marginal"] = (
            "drawn from q(y|x), which a pilot of a few samples a class gives; "
            "K counts the pilot's samples and those of all classes"
            if "posterior" in label_enters
            else "summed out exactly: the prior is the mixture over p(y)"
        )
    return found


PROPOSALS = {
    "amortised": "q(z|x) of the encoder",
    "refined": "q(z|x) of the encoder, refined for each image by gradient steps and widened",
}


def binarization_note(binarization: Binarization) -> str:
    """How the pixels of the test images are used."""
    if binarization == "none":
        return "none (grey in [0, 1])"
    return "stochastic (each pixel 1 with its grey value as probability; drawn once for validation and test)"
