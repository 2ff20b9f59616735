"""What the numbers were measured on, and how."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption, Evaluation, PixelLikelihood, RunConfig
from aebench.data.description import Binarization
from aebench.models.corruption import apply, draw
from aebench.randomness import generator

PerImage = dict[str, NDArray[np.float64]]


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


def protocol(
    binarization: Binarization,
    config: RunConfig,
    evaluation: Evaluation,
    images: int,
    conditional_parts: Sequence[str],
    own_validation: bool,
) -> dict[str, Any]:
    """What the numbers of one variant were measured on, and how."""
    facts: dict[str, Any] = {
        "split": "test",
        "images": images,
        "binarization": BINARIZATIONS[binarization],
        "selection": config.training.select,
        "training": config.training.model_dump(mode="json"),
        "network": config.network.model_dump(mode="json"),
        "numerics": config.numerics,
        "device": config.device,
        "evaluation": evaluation.model_dump(mode="json"),
        "trained_with_labels": bool(conditional_parts),
        "probe_codes": "of the clean image, without its label"
        + (", averaged over p(y)" if "posterior" in conditional_parts else ""),
    }
    if own_validation:
        facts["validation"] = "the data set's own split"
    else:
        facts |= config.data.model_dump(mode="json")
    if isinstance(config.model, PixelLikelihood):
        likelihood = config.model.likelihood
        facts |= {
            "likelihood": likelihood.likelihood,
            "likelihood_note": likelihood.note(binarized=binarization != "none"),
            "importance_samples": evaluation.importance_samples,
            "proposal": PROPOSALS[evaluation.proposal],
        }
    if conditional_parts:
        facts["label_of_the_marginal"] = (
            "drawn from q(y|x), which "
            + (
                "Laplace's approximation of p(x|y) gives; K counts the samples of all classes"
                if evaluation.proposal == "laplace"
                else "a pilot of a few samples a class gives; K counts the pilot's samples and those of all classes"
            )
            if {"posterior", "likelihood"} & set(conditional_parts)
            else "summed out exactly: the prior is the mixture over p(y)"
        )
    return facts


PROPOSALS = {
    "amortised": "q(z|x) of the encoder",
    "refined": "q(z|x) of the encoder, refined for each image by gradient steps and widened",
    "laplace": "a Gaussian fitted to each image's posterior (Laplace's approximation, widened)",
}

# How the pixels are used.
BINARIZATIONS: dict[Binarization, str] = {
    "none": "none (grey in [0, 1])",
    "stochastic": "stochastic (each pixel 1 with its grey value as probability; drawn once for validation and test)",
    "fixed": "fixed (each pixel 1 with its grey value as probability; drawn once, for training too)",
    "threshold": "threshold (each pixel 1 where its grey value is at least 0.5)",
}
