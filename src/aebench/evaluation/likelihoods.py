"""What is measured of every image's likelihood: bounds, their health, the generalisation gap, ex-post densities."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from aebench.config import Evaluation
from aebench.data.datasets import Split, Splits
from aebench.evaluation.diagnostics import (
    FEWEST_SAMPLES,
    effective_sample_size,
    k_curve,
    k_values,
    pareto_k,
    pareto_k_limit,
)
from aebench.evaluation.estimators import Draws
from aebench.evaluation.expost import ExPost
from aebench.evaluation.marginal import BatchedProposal, Budget, Marginal, split_budget
from aebench.evaluation.proposals import refined
from aebench.evaluation.protocol import PerImage
from aebench.models.autoencoder import Autoencoder
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import generator

if TYPE_CHECKING:
    from aebench.execution.progress import Report

# Samples of each training image's ELBO: the mean over images needs no more.
ELBO_SAMPLES = 10
# Images that are taken together, fewer where that would mean to hold more than so many importance weights.
GROUP, HELD = 100, 1_000_000

Vectors = dict[str, list[float]]


def likelihoods(
    model: LatentVariableModel, test: Split, config: Evaluation, seed: int, report: "Report"
) -> tuple[PerImage, Vectors]:
    """ELBO, its two parts, the importance-weighted log-likelihood and its health for every image; also given its label.

    The first result has values `[N]` by metric, in nats but for those of health; the second the K-curve's two vectors.
    Every image that is taken by itself has generators of its own. The ELBO is always that of the encoder's q(z|x),
    whatever the importance samples are drawn from.
    """
    samples, marginal = config.importance_samples, Marginal(model)
    curve_samples = k_values(split_budget(samples, marginal.classes).weighted)
    values: dict[str, list[Tensor]] = defaultdict(list)
    curve = torch.zeros(len(curve_samples), dtype=torch.float64)
    # One kind of work after the other, on a group of images: what is interleaved image by image finds its code and its
    # data gone from the processor's cache each time, which costs a tenth.
    for group in torch.arange(len(test)).split(max(1, min(GROUP, HELD // samples))):
        parts = _parts(test, group)
        encoders = [marginal.amortised(part.x) for part in parts]
        proposals = _refined(marginal, parts, seed) if config.proposal == "refined" else encoders
        weighted, encoded = [], []
        for part, proposal, encoder in zip(parts, proposals, encoders, strict=True):
            noise = generator(seed, "importance samples", part.first)
            weigh = partial(marginal.estimate, part.x, samples, noise, label=part.label(model))
            weighted.append(weigh(proposal=proposal))
            encoded.append(weighted[-1] if proposal is encoder else weigh(proposal=encoder))
        for found in weighted:
            values["iw_log_likelihood_nats"].append(found.marginal.iw_log_likelihood)
            if found.given_label is not None:
                values["iw_log_likelihood_given_label_nats"].append(found.given_label.iw_log_likelihood)
            for log_weights in found.marginal.log_weights.T:
                curve += _tensor(k_curve(log_weights))
            _health(values, found.marginal)
        for part, encoder, found in zip(parts, encoders, encoded, strict=True):
            rate = marginal.rate(encoder, found)
            values["distortion_nats"].append(found.marginal.distortion)
            values["rate_nats"].append(rate)
            values["elbo_nats"].append(-found.marginal.distortion - rate)
            if (label := part.label(model)) is not None and found.given_label is not None:
                rate_given_label = marginal.rate_given_label(encoder, found, label)
                values["elbo_given_label_nats"].append(-found.given_label.distortion - rate_given_label)
        report(int(group[-1]) + 1, len(test), f"log-likelihood, K = {samples}")
    vectors = {"k_curve_samples": [*map(float, curve_samples)], "k_curve_nats": (curve / len(test)).tolist()}
    return {name: torch.cat(column).numpy() for name, column in values.items()}, vectors


def _health(values: dict[str, list[Tensor]], draws: Draws, prefix: str = "") -> None:
    of_each = draws.log_weights.T.contiguous()
    values[f"{prefix}effective_sample_size"].append(_tensor(map(effective_sample_size, of_each)))
    samples = len(draws.log_weights)
    if samples >= FEWEST_SAMPLES:
        khat = _tensor(map(pareto_k, of_each))
        values[f"{prefix}pareto_k"].append(khat)
        values[f"{prefix}pareto_k_unreliable_share"].append((khat > pareto_k_limit(samples)).double())


def _tensor(values: Iterable[float]) -> Tensor:
    return torch.tensor([*values], dtype=torch.float64)


class _Part(NamedTuple):
    """Images that are taken together, of which the first is number `first`: one on the CPU, a group on a GPU."""

    first: int
    x: Tensor
    y: Tensor

    def label(self, model: LatentVariableModel) -> Tensor | None:
        """The labels `[B]`, where one enters the model."""
        return self.y if model.conditional_parts else None


def _parts(split: Split, places: Tensor) -> list[_Part]:
    there = places.to(split.labels.device)
    x, y = split.pixels(there), split.labels[there]
    if not x.is_cpu:
        return [_Part(int(places[0]), x, y)]
    return [_Part(*of_image) for of_image in zip(places.tolist(), x.split(1), y.split(1), strict=True)]


def _refined(marginal: Marginal, parts: Sequence[_Part], seed: int) -> list[BatchedProposal]:
    """The refined proposal of each part, all made together."""
    x, classes = torch.cat([part.x for part in parts]), marginal.classes
    images = range(parts[0].first, parts[0].first + len(x))
    noise = [generator(seed, "refinement", image, label) for image in images for label in range(max(classes, 1))]
    proposal = BatchedProposal.make(lambda x, y: refined(marginal.model, x, noise, y), x, classes)
    return [proposal] if len(parts) == 1 else [proposal.of(image) for image in range(len(x))]


def elbo_on_training_images(model: LatentVariableModel, splits: Splits, config: Evaluation, seed: int) -> float:
    """The ELBO's mean in nats over as many training images as there are test images, or all where there are fewer."""
    train, marginal = splits.train.fixed("train"), Marginal(model)
    chosen = torch.randperm(len(train), generator=generator("generalisation gap"))[: len(splits.test)]
    pilot, noise = split_budget(config.importance_samples, marginal.classes).pilot, generator(seed, "training ELBO")
    budget, there = Budget(pilot, ELBO_SAMPLES), chosen.to(train.labels.device)
    return torch.cat([marginal.elbo(train.pixels(index), budget, noise) for index in there.split(GROUP)]).mean().item()


def expost_likelihoods(
    model: Autoencoder, splits: Splits, config: Evaluation, seed: int, report: "Report"
) -> tuple[PerImage, float]:
    """Ex-post log-likelihood in nats and its health for `expost.images` test images, the same for every variant; and σ.

    Raises:
        Diverged: the decoder's derivative is not finite.
    """
    expost = ExPost(model, splits.train, splits.validation)
    marginal, samples = Marginal(expost), config.expost.importance_samples
    chosen = torch.randperm(len(splits.test), generator=generator("ex-post images"))[: config.expost.images]
    values: dict[str, list[Tensor]] = defaultdict(list)
    done = 0
    for group in chosen.sort().values.split(max(1, GROUP // max(marginal.classes, 1))):
        parts = _parts(splits.test, group)
        together = BatchedProposal.make(expost.posterior, torch.cat([part.x for part in parts]), marginal.classes)
        for place, part in enumerate(parts):
            noise = generator(seed, "ex-post samples", part.first)
            proposal = together if len(parts) == 1 else together.of(place)
            found = marginal.estimate(part.x, samples, noise, proposal=proposal).marginal
            values["expost_log_likelihood_nats"].append(found.iw_log_likelihood)
            _health(values, found, "expost_")
        done += len(group)
        report(done, len(chosen), f"ex-post log-likelihood, K = {samples}")
    return {name: torch.cat(column).numpy() for name, column in values.items()}, expost.log_sigma.exp().item()
