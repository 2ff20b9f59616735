"""The arrays behind the report's pictures: chosen by rule, the same images for every variant."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption
from aebench.data.datasets import Splits
from aebench.evaluation.protocol import corrupted
from aebench.models.autoencoder import Autoencoder, LatentVariableModel
from aebench.randomness import drawing_from, generator

SAMPLES_PER_ROW = 10
ROWS = 5


@torch.no_grad()
def pictures(model: Autoencoder, splits: Splits, corruption: Corruption, seed: int) -> dict[str, NDArray[np.float32]]:
    """`originals`, `reconstructions`, `corrupted`, `restored` `[classes, C, H, W]`: of each class the first test image.

    With a prior also `samples` `[rows, columns, C, H, W]`, the means of p(x|z) for z from the prior: a row a class
    where the label moves the prior.
    """
    labels = splits.test.labels
    chosen = torch.cat([(labels == label).nonzero()[:1, 0] for label in range(splits.classes)])
    x = splits.test.pixels(chosen)
    spoilt = torch.cat([corrupted(splits.test.pixels(slice(i, i + 1)), corruption, i) for i in chosen.tolist()])
    found = {
        "originals": x,
        "reconstructions": model.reconstruct(x),
        "corrupted": spoilt.clamp(0, 1),
        "restored": model.reconstruct(spoilt),
    }
    if isinstance(model, LatentVariableModel):
        found["samples"] = prior_samples(model, splits.classes, generator(seed, "prior samples"))
    return {
        name: images.reshape(*images.shape[:-1], *splits.shape).numpy().astype(np.float32)
        for name, images in found.items()
    }


@torch.no_grad()
def prior_samples(model: LatentVariableModel, classes: int, noise: torch.Generator) -> Tensor:
    """Means of p(x|z), z from the prior: `[rows, columns, D]`."""
    with drawing_from(noise):
        if model.label_enters:
            y = torch.arange(classes)
            z = model.prior(y).sample(torch.Size((SAMPLES_PER_ROW,)))
            return model.decode(z, y).transpose(0, 1)
        return model.decode(model.prior().sample(torch.Size((ROWS, SAMPLES_PER_ROW))))


def plane(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes `[N, L]` on their first two principal components, `[N, 2]`; a single dimension is set against zero."""
    from sklearn.decomposition import PCA

    if codes.shape[1] == 1:
        return np.column_stack([codes, np.zeros_like(codes)])
    projected: NDArray[np.float32] = PCA(2, svd_solver="covariance_eigh").fit_transform(codes)
    return projected
