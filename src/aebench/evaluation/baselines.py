"""What needs no training: PCA at the same size, raw pixels, the mean image."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Corruption, Data
from aebench.data.datasets import Splits, load
from aebench.data.description import Description
from aebench.evaluation.probes import Labelled, few_label_probes, logistic, nearest_neighbours, probes, right
from aebench.evaluation.protocol import PerImage, archive, corrupted, unarchive
from aebench.evaluation.statistics import interval
from aebench.execution.jobs import ResultCache
from aebench.fingerprint import key
from aebench.models.objectives import binary_cross_entropy, squared_error
from aebench.numerics import Numerics
from aebench.store import Store

if TYPE_CHECKING:
    from aebench.execution.progress import Report


def jobs(
    dataset: str,
    data_sha256: str,
    code: str,
    data: Data,
    latent_dim: int,
    corruption: Corruption,
    numerics: Numerics,
    store: Store,
) -> tuple[dict[str, Callable[..., PerImage]], ResultCache[PerImage]]:
    """The measurements by name, ready for workers, and where each is kept.

    `data_sha256` is the hash of the data set's file, `code` the fingerprint of the code that measures.
    The part of a name before the colon is the baseline's. Each measurement gives values `[N]` of the test images by
    metric.
    """
    measures: dict[str, Callable[[Splits], PerImage]] = {
        "raw_pixels: probe": raw_pixels_probe,
        "raw_pixels: few labels": raw_pixels_few_labels,
        "raw_pixels: neighbours": raw_pixels_neighbours,
        "pca": partial(pca, components=latent_dim, corruption=corruption),
        "mean_image": mean_image,
    }
    facts = {
        "dataset": dataset,
        "data": data_sha256,
        "split": data.model_dump(mode="json"),
        "latent_dim": latent_dim,
        "corruption": [corruption.corruption, corruption.corruption_rate],
        "numerics": numerics,
    }
    keys = {name: f"{key(code, measure=name, **facts)}.baseline" for name in measures}
    work: dict[str, Callable[..., PerImage]] = {
        name: partial(_measure, measure, dataset, data) for name, measure in measures.items()
    }
    return work, ResultCache(store, keys, archive, unarchive)


def _measure(
    measure: Callable[[Splits], PerImage],
    dataset: str,
    held_out: Data,
    data: Path | bytes,
    report: "Report",
) -> PerImage:
    measured = measure(load(data, dataset, held_out))
    report(1, 1, "measured")
    return measured


def mean_image(splits: Splits) -> PerImage:
    """The mean of the training images as every image's reconstruction, and as independent Bernoulli pixels.

    Squared errors are a pixel, the cross-entropy is in nats.
    """
    x = splits.test.pixels(slice(None)).double()
    mean = splits.train.fixed("train").pixels(slice(None)).mean(0, dtype=torch.float64)
    error = squared_error(x, mean) / x.shape[-1]
    return {
        "reconstruction_mse": error.numpy(),
        "denoising_mse": error.numpy(),  # whatever the input, the answer is the same
        "reconstruction_bce_nats": binary_cross_entropy(x, mean).numpy(),
    }


def pca(splits: Splits, components: int, corruption: Corruption) -> PerImage:
    """The first principal components of the training images as codes: squared errors a pixel, and the probes.

    There are no more `components` than training images or pixels.
    """
    from sklearn.decomposition import PCA

    train, validation, test = _raw_pixels(splits)
    fitted = PCA(min(components, *train.codes.shape), svd_solver="covariance_eigh").fit(train.codes)

    def mse(images: NDArray[np.float32]) -> NDArray[np.float64]:
        restored: Tensor = torch.from_numpy(fitted.inverse_transform(fitted.transform(images)))
        error = squared_error(torch.from_numpy(test.codes).double(), restored) / test.codes.shape[1]
        values: NDArray[np.float64] = error.double().numpy()
        return values

    codes = [
        # scikit-learn transforms no empty array, which the validation split may be.
        Labelled(fitted.transform(split.codes) if len(split.labels) else split.codes, split.labels)
        for split in (train, validation, test)
    ]
    return {
        "reconstruction_mse": mse(test.codes),
        "denoising_mse": mse(corrupted(torch.from_numpy(test.codes), corruption).numpy()),
        **probes(*codes)[0],
    }


def raw_pixels_probe(splits: Splits) -> PerImage:
    """The image itself as its code, for the logistic probe."""
    train, validation, test = _raw_pixels(splits)
    return {"probe_accuracy": right(logistic(train, validation, test), test)}


def raw_pixels_few_labels(splits: Splits) -> PerImage:
    """The image itself as its code, for the logistic probe from few labels."""
    train, _, test = _raw_pixels(splits)
    return few_label_probes(train, test)


def raw_pixels_neighbours(splits: Splits) -> PerImage:
    """The image itself as its code, for the nearest neighbours."""
    train, _, test = _raw_pixels(splits)
    return {"knn_accuracy": nearest_neighbours(train, test)}


def _raw_pixels(splits: Splits) -> tuple[Labelled, Labelled, Labelled]:
    """The images themselves as codes: training, validation, test."""
    train, validation, test = (
        Labelled(split.pixels(slice(None)).numpy(), split.labels.numpy())
        for split in (splits.train.fixed("train"), splits.validation, splits.test)
    )
    return train, validation, test


def document(dataset: str, about: Description, latent_dim: int, measured: Mapping[str, PerImage]) -> dict[str, Any]:
    """The content of `reports/baselines/DATASET.json`: what the data set is, and its baselines.

    A baseline has no seeds, so its intervals are over images.
    """
    baselines: dict[str, dict[str, Any]] = {}
    for name, per_image in measured.items():
        baseline = baselines.setdefault(name.split(":")[0], {})
        for metric, values in per_image.items():
            baseline[metric] = {"mean": float(values.mean()), "ci95_images": interval(values)}
    images = len(next(iter(measured["mean_image"].values())))
    return {
        "dataset": dataset,
        "data": about.as_json(),
        "latent_dim": latent_dim,
        "protocol": {"split": "test", "images": images},
        "baselines": baselines,
    }


def npz(measured: Mapping[str, PerImage]) -> bytes:
    """The per-image values as a NumPy archive, each under `BASELINE/METRIC`."""
    return archive(
        {
            f"{name.split(':')[0]}/{metric}": values
            for name, per_image in measured.items()
            for metric, values in per_image.items()
        }
    )
