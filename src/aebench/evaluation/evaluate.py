"""One run's metrics on the test split, and a variant's metrics over its seeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Evaluation, RunConfig
from aebench.data.datasets import Split, load
from aebench.errors import TrainingError
from aebench.evaluation.estimators import bounds
from aebench.evaluation.pictures import pictures, plane
from aebench.evaluation.probes import Labelled, logistic, nearest_neighbours
from aebench.evaluation.protocol import (
    PerImage,
    archive,
    binarization_note,
    corrupted,
    likelihood_note,
    not_defined,
)
from aebench.evaluation.statistics import NEEDS_SEEDS, summary
from aebench.execution import Report
from aebench.models.autoencoder import Autoencoder, LatentVariableModel
from aebench.models.objectives import binary_cross_entropy, squared_error
from aebench.randomness import generator
from aebench.training.checkpoints import load_run, read_config, weights_sha256

Arrays = dict[str, NDArray[np.generic]]
BATCH = 1000
# A latent dimension is active where its posterior mean varies by more than this (Burda et al. 2016, §5.2).
ACTIVE = 0.01


@dataclass(frozen=True)
class Evaluated:
    """One run: `metrics` by name, `per_image` values of those that are means, `vectors`, arrays for pictures."""

    metrics: dict[str, float]
    per_image: PerImage
    vectors: dict[str, list[float]]
    arrays: Arrays
    not_defined: dict[str, str]
    parameters: int
    label_enters: tuple[str, ...]
    selected_epoch: int
    weights_sha256: str

    def npz(self) -> bytes:
        """Per-image values, codes and pictures as a NumPy archive, the same bytes for the same values."""
        return archive({**self.per_image, **self.arrays})


@torch.no_grad()
def evaluate_run(
    folder: Path,
    config: Evaluation,
    dataset: str,
    data: Path,
    validation_fraction: float,
    seed: int,
    report: Report,
) -> Evaluated:
    """Every metric that is defined for the run in `folder`.

    Args:
        folder: a trained run.
        config: K and the corruption.
        dataset: the data set's name.
        data: its file.
        validation_fraction: as in training.
        seed: the run's; the noise of the estimators is derived from it.
        report: is told (images done, images in all, what is being measured).

    Raises:
        TrainingError: the run is missing, damaged, or its weights are not finite.
    """
    model = load_run(folder)
    if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values()):
        raise TrainingError(f"{folder}: the weights are not finite; train the run again")
    splits = load(data, dataset, validation_fraction)
    codes = encode(model, splits.test)
    report(0, len(splits.test), "reconstructions and probes")
    per_image = reconstructions(model, splits.test, config)
    train = Labelled(encode(model, splits.train.fixed("train")), splits.train.labels.numpy())
    validation = Labelled(encode(model, splits.validation), splits.validation.labels.numpy())
    test = Labelled(codes, splits.test.labels.numpy())
    per_image["probe_accuracy"] = logistic(train, validation, test)
    per_image["knn_accuracy"] = nearest_neighbours(train, test)
    other: dict[str, float] = {}
    vectors: dict[str, list[float]] = {}
    if isinstance(model, LatentVariableModel):
        per_image |= likelihoods(model, splits.test, config.importance_samples, seed, report)
        spread = codes.var(axis=0, dtype=np.float64)
        other["active_units"] = float((spread > ACTIVE).sum())
        vectors["posterior_mean_variance"] = spread.tolist()
    return Evaluated(
        metrics={name: float(values.mean()) for name, values in per_image.items()} | other,
        per_image=per_image,
        vectors=vectors,
        arrays={
            "codes": codes,
            "plane": plane(codes),
            "labels": test.labels,
            **pictures(model, splits, config, seed),
        },
        not_defined=not_defined(model),
        parameters=sum(weight.numel() for weight in model.parameters()),
        label_enters=tuple(sorted(model.label_enters)),
        selected_epoch=read_config(folder)["selected_epoch"],
        weights_sha256=weights_sha256(folder),
    )


def _batches(split: Split) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(split), BATCH):
        where = slice(start, min(start + BATCH, len(split)))
        yield where, split.pixels(where)


def encode(model: Autoencoder, split: Split) -> NDArray[np.float32]:
    """Codes `[N, L]` of a split."""
    return np.concatenate([model.encode(x).numpy() for _, x in _batches(split)] or [np.empty((0, 0), np.float32)])


def reconstructions(model: Autoencoder, test: Split, config: Evaluation) -> PerImage:
    """Errors of the reconstruction of every image, from a clean and from a corrupted input."""
    rows = []
    for where, x in _batches(test):
        x_hat = model.reconstruct(x)
        restored = model.reconstruct(corrupted(x, config, where.start))
        rows.append(
            (
                squared_error(x, x_hat).double() / x.shape[-1],
                binary_cross_entropy(x, x_hat).double(),
                squared_error(x, restored).double() / x.shape[-1],
            )
        )
    mse, cross_entropy, denoising = (torch.cat(column).numpy() for column in zip(*rows, strict=True))
    return {"reconstruction_mse": mse, "reconstruction_bce_nats": cross_entropy, "denoising_mse": denoising}


def likelihoods(model: LatentVariableModel, test: Split, samples: int, seed: int, report: Report) -> PerImage:
    """ELBO, its two parts and the importance-weighted log-likelihood of every image; also given its label.

    Every image has a generator of its own, so its value does not depend on the images beside it.
    """
    names = ["distortion_nats", "rate_nats", "elbo_nats", "iw_log_likelihood_nats"]
    if model.label_enters:
        names += ["elbo_given_label_nats", "iw_log_likelihood_given_label_nats"]
    values = np.empty((len(test), len(names)))
    for position in range(len(test)):
        image = slice(position, position + 1)
        priors = [model.prior()]
        if model.label_enters:
            priors.append(model.prior(test.labels[image]))
        noise = generator(seed, "importance samples", position)
        marginal, *given = bounds(model, test.pixels(image), priors, samples, noise)
        row = [marginal.distortion, marginal.rate, marginal.elbo, marginal.iw_log_likelihood]
        for bound in given:
            row += [bound.elbo, bound.iw_log_likelihood]
        values[position] = row
        if (position + 1) % 200 == 0 or position + 1 == len(test):
            report(position + 1, len(test), f"log-likelihood, K = {samples}")
    return dict(zip(names, np.ascontiguousarray(values.T), strict=True))


def document(dataset: str, config: RunConfig, evaluation: Evaluation, runs: Mapping[int, Evaluated]) -> dict[str, Any]:
    """The content of `reports/metrics/DATASET/VARIANT.json`, from the runs by seed."""
    first = next(iter(runs.values()))
    likelihood = getattr(config.model, "likelihood", None)
    reasons = dict(first.not_defined)
    summaries = {}
    for metric in first.metrics:
        per_image = [run.per_image[metric] for run in runs.values()] if metric in first.per_image else None
        summaries[metric] = summary([run.metrics[metric] for run in runs.values()], per_image)
        if len(runs) == 1:
            reasons |= {f"{metric}.{statistic}": NEEDS_SEEDS for statistic in ("sd", "ci95")}
        if per_image is None:
            reasons[f"{metric}.ci95_images"] = "is not a mean over images"
    protocol: dict[str, Any] = {
        "split": "test",
        "images": len(first.arrays["labels"]),
        "seeds": len(runs),
        "binarization": binarization_note(dataset),
        "validation_fraction": config.data.validation_fraction,
        "selection": config.training.select,
        "selected_epoch": {str(seed): run.selected_epoch for seed, run in runs.items()},
        "training": config.training.model_dump(mode="json"),
        "network": config.network.model_dump(mode="json"),
        "numerics": config.numerics,
        "evaluation": evaluation.model_dump(mode="json"),
        "probe_codes": "of the clean image, without its label",
        "trained_with_labels": bool(first.label_enters),
    }
    if likelihood is not None:
        protocol |= {
            "likelihood": likelihood,
            "likelihood_note": likelihood_note(dataset, likelihood),
            "importance_samples": evaluation.importance_samples,
            "proposal": "q(z|x) of the encoder",
        }
    return {
        "dataset": dataset,
        "variant": config.variant,
        "kind": config.model.kind,
        "parameters": first.parameters,
        "protocol": protocol,
        "seeds": {str(seed): run.metrics for seed, run in runs.items()},
        "failed": {},
        "weights_sha256": {str(seed): run.weights_sha256 for seed, run in runs.items()},
        "summary": summaries,
        "vectors": {name: {str(seed): run.vectors[name] for seed, run in runs.items()} for name in first.vectors},
        "not_defined": reasons,
    }
