"""What is measured, on what, and what of it is not defined for whom."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption
from aebench.data.corruption import corrupt
from aebench.data.datasets import DATASETS
from aebench.models.autoencoder import Autoencoder, LatentVariableModel
from aebench.randomness import generator

PerImage = dict[str, NDArray[np.float64]]

LIKELIHOOD_METRICS = ("elbo_nats", "distortion_nats", "rate_nats", "iw_log_likelihood_nats", "active_units")
LABEL_METRICS = ("elbo_given_label_nats", "iw_log_likelihood_given_label_nats")


def archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as a NumPy archive: the same bytes for the same values."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def corrupted(x: Tensor, corruption: Corruption, first: int = 0) -> Tensor:
    """Test images `[B, D]`, of which the first is number `first`, corrupted: the same for every variant and seed."""
    return torch.cat(
        [corrupt(image, corruption, generator("test", "corruption", first + i)) for i, image in enumerate(x.split(1))]
    )


def not_defined(model: Autoencoder) -> dict[str, str]:
    """The metrics that `model` cannot have, each with the reason."""
    reasons = {}
    if not isinstance(model, LatentVariableModel):
        for metric in (*LIKELIHOOD_METRICS, *LABEL_METRICS):
            reasons[metric] = "has no p(z), hence neither a likelihood nor a bound on one"
        reasons["active_units"] = "has no prior to which a latent dimension could collapse"
    elif not model.label_enters:
        for metric in LABEL_METRICS:
            reasons[metric] = "does not condition on the label"
    return reasons


def likelihood_note(dataset: str, likelihood: str) -> str:
    """What a number in nats under `likelihood` is on this data."""
    if likelihood == "bernoulli" and DATASETS[dataset].binarization == "none":
        return "cross-entropy on grey pixels: not a normalised likelihood, comparable only with its like"
    return "a likelihood of the binarised pixels"


def binarization_note(dataset: str) -> str:
    """How the pixels of the test images are used."""
    if DATASETS[dataset].binarization == "none":
        return "none (grey in [0, 1])"
    return "stochastic (each pixel 1 with its grey value as probability; drawn once for validation and test)"
