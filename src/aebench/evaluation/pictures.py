"""The arrays behind the report's pictures: chosen by rule, the same images for every variant."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption
from aebench.data.datasets import Splits
from aebench.evaluation.protocol import corrupted
from aebench.models.autoencoder import Autoencoder
from aebench.models.labels import inferred_label, sample_prior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import drawing_from, generator

SAMPLES_PER_ROW = 10
ROWS = 5
# Steps of an interpolation or a traversal, dimensions traversed, and how far, in standard deviations of the codes.
STEPS, TRAVERSED, REACH = 9, 6, 3.0
# Test images that the non-linear map shows.
MAPPED = 1000


@torch.no_grad()
def pictures(
    model: Autoencoder,
    splits: Splits,
    corruption: Corruption,
    seed: int,
    codes: NDArray[np.float32],
    errors: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """What the report shows of one run.

    Args:
        model: trained.
        splits: its data.
        corruption: of the denoising task.
        seed: the run's.
        codes: of the test images, `[N, L]`.
        errors: of the test images' reconstructions, `[N]`.

    Returns:
        Images `[..., C, H, W]` in [0, 1]. `originals`, `reconstructions`, `corrupted`, `restored` `[classes]`: of each
        class the first test image. `interpolations` `[pairs, STEPS]`: of those images two by two, on the line between
        their codes. `traversal` `[TRAVERSED, STEPS]`: of the first of them, one of the most active dimensions of the
        code moved through its mean ± `REACH` standard deviations; which ones is `traversed`. `best`, `worst`
        `[2, columns]`: the test images with the smallest and the largest errors, with their reconstructions. With a
        prior also `samples` `[rows, columns]`, the means of p(x|z) for z from the prior: a row a class where a label
        enters the model. `traversed` `[TRAVERSED]` alone holds no images.
    """
    labels = splits.test.labels
    chosen = torch.cat([(labels == label).nonzero()[:1, 0] for label in range(splits.classes)])
    x = splits.test.pixels(chosen)
    spoilt = torch.cat([corrupted(splits.test.pixels(slice(i, i + 1)), corruption, i) for i in chosen.tolist()])
    y = inferred_label(model, x) if isinstance(model, LatentVariableModel) and model.conditional_parts else None
    traversed = np.argsort(-codes.var(axis=0), kind="stable")[:TRAVERSED]
    order = np.argsort(errors, kind="stable")
    tensors = {
        "originals": x,
        "reconstructions": model.reconstruct(x),
        "corrupted": spoilt.clamp(0, 1),
        "restored": model.reconstruct(spoilt),
        "interpolations": _interpolations(model, x, y),
        "traversal": _traversal(model, x[:1], y, codes, traversed),
    }
    for name, places in (("best", order), ("worst", order[::-1])):
        shown = splits.test.pixels(torch.from_numpy(places[:SAMPLES_PER_ROW].copy()).to(labels.device))
        tensors[name] = torch.stack([shown, model.reconstruct(shown)])
    if isinstance(model, LatentVariableModel):
        tensors["samples"] = prior_samples(model, splits.classes, generator(seed, "prior samples"))
    images: dict[str, NDArray[Any]] = {
        name: images.reshape(*images.shape[:-1], *splits.shape).cpu().numpy().astype(np.float32)
        for name, images in tensors.items()
    }
    return images | {"traversed": traversed}


def _interpolations(model: Autoencoder, x: Tensor, y: Tensor | None) -> Tensor:
    """Two by two: `[B, D]` → `[B // 2, STEPS, D]`; a label that the decoder takes changes half-way."""
    steps = torch.linspace(0, 1, STEPS, device=x.device)[:, None]
    rows = []
    for a in range(0, len(x) - 1, 2):
        start, end = model.encode(x[a : a + 2], None if y is None else y[a : a + 2])
        between = None if y is None else torch.where(steps[:, 0] < 0.5, y[a], y[a + 1])
        rows.append(model.decode(torch.lerp(start, end, steps), between))
    return torch.stack(rows) if rows else x.new_zeros(0, STEPS, x.shape[-1])


def _traversal(
    model: Autoencoder, x: Tensor, y: Tensor | None, codes: NDArray[np.float32], dimensions: NDArray[np.int64]
) -> Tensor:
    """`[dimensions, STEPS, D]`."""
    mean, deviation = (torch.from_numpy(values).to(x.device) for values in (codes.mean(axis=0), codes.std(axis=0)))
    steps = torch.linspace(-REACH, REACH, STEPS, device=x.device)
    label = None if y is None else y[:1].expand(STEPS)
    rows = []
    for dimension in dimensions.tolist():
        z = model.encode(x, None if y is None else y[:1]).repeat(STEPS, 1)
        z[:, dimension] = mean[dimension] + steps * deviation[dimension]
        rows.append(model.decode(z, label))
    return torch.stack(rows)


@torch.no_grad()
def prior_samples(model: LatentVariableModel, classes: int, noise: torch.Generator) -> Tensor:
    """Means of p(x|z), z from the prior: `[rows, columns, D]`, a row a class where a label enters the model."""
    with drawing_from(noise):
        if model.conditional_parts:
            y = torch.arange(classes, device=model.log_class_shares.device)
            return model.decode(sample_prior(model, SAMPLES_PER_ROW, y), y).transpose(0, 1)
        return model.decode(model.prior().sample(torch.Size((ROWS, SAMPLES_PER_ROW))))


def plane(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes `[N, L]` on their first two principal components, `[N, 2]`; a single dimension is set against zero."""
    from sklearn.decomposition import PCA

    if codes.shape[1] == 1:
        return np.column_stack([codes, np.zeros_like(codes)])
    projected: NDArray[np.float32] = PCA(2, svd_solver="covariance_eigh").fit_transform(codes)
    return projected


def neighbourhoods(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map of the first `MAPPED` codes in which neighbours stay together, `[N, L]` → `[n, 2]`.

    It is made by t-SNE (van der Maaten & Hinton 2008), which begins at the codes' first two principal components.
    Distances between groups, their sizes and the axes mean nothing.
    """
    from sklearn.manifold import TSNE

    mapped = codes[:MAPPED]
    begin = plane(mapped)
    spread = begin.std() or 1.0  # where all codes are one: of NaN, t-SNE ends the process
    drawn: NDArray[np.float32] = TSNE(
        perplexity=min(30.0, (len(mapped) - 1) / 3),
        init=np.ascontiguousarray(begin / spread * 1e-4),
        max_iter=500,
        random_state=0,
    ).fit_transform(mapped)
    return drawn.astype(np.float32)
