"""Codes and reconstructions of whole splits, and what is measured of them."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption
from aebench.data.datasets import Split
from aebench.evaluation.protocol import PerImage, corrupted
from aebench.models.autoencoder import Autoencoder
from aebench.models.labels import inferred_label, sampled_classes
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.objectives import binary_cross_entropy, squared_error

BATCH = 1000


def batches(split: Split) -> Iterator[tuple[slice, Tensor]]:
    """The split's images, `BATCH` at a time, with their places."""
    for start in range(0, len(split), BATCH):
        where = slice(start, min(start + BATCH, len(split)))
        yield where, split.pixels(where)


@torch.no_grad()
def encode(model: Autoencoder, split: Split) -> NDArray[np.float32]:
    """Codes `[N, L]` of a split, without its labels; `[0, 0]` where it is empty."""
    return np.concatenate([model.encode(x).cpu().numpy() for _, x in batches(split)] or [np.empty((0, 0), np.float32)])


@torch.no_grad()
def reconstructions(model: Autoencoder, test: Split, corruption: Corruption) -> PerImage:
    """What is measured of every image's reconstruction, `[N]` by metric.

    Squared errors a pixel, from a clean and from a corrupted input, and the cross-entropy in nats; where a label enters
    the model, also whether the inferred one is right, and the errors with the image's own label where the networks take
    one.
    """
    rows: list[dict[str, Tensor]] = []
    for where, x in batches(test):
        spoilt, y = corrupted(x, corruption, where.start), test.labels[where]
        row = {}
        inferred = None
        if isinstance(model, LatentVariableModel) and model.conditional_parts:
            inferred = inferred_label(model, x)
            row["generative_accuracy"] = inferred == y
            if sampled_classes(model):
                row["reconstruction_mse_given_label"] = _mse(x, model.reconstruct(x, y))
                row["denoising_mse_given_label"] = _mse(x, model.reconstruct(spoilt, y))
        x_hat = model.reconstruct(x, inferred)
        row["reconstruction_mse"] = _mse(x, x_hat)
        row["reconstruction_bce_nats"] = binary_cross_entropy(x, x_hat)
        row["denoising_mse"] = _mse(x, model.reconstruct(spoilt))
        rows.append(row)
    return {metric: torch.cat([row[metric] for row in rows]).double().cpu().numpy() for metric in rows[0]}


def _mse(x: Tensor, x_hat: Tensor) -> Tensor:
    return squared_error(x, x_hat).double() / x.shape[-1]
