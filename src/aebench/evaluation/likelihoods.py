"""What is measured of every image's likelihood: bounds, their health, the generalisation gap, ex-post densities."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

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
from aebench.evaluation.estimators import (
    Draws,
    Estimate,
    Prepared,
    Proposal,
    amortised,
    drawn_classes,
    elbo,
    estimate,
    rate,
    sharing,
)
from aebench.evaluation.expost import ExPost
from aebench.evaluation.proposals import refined
from aebench.evaluation.protocol import PerImage
from aebench.models.autoencoder import Autoencoder, LatentVariableModel
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

    Every image has generators of its own, so its value does not depend on the images beside it. The ELBO is always that
    of the encoder's q(z|x), whatever the importance samples are drawn from.
    """
    samples = config.importance_samples
    weighted = sharing(samples, drawn_classes(model))[1]
    values: dict[str, list[float]] = defaultdict(list)
    curve = np.zeros(len(k_values(weighted)))
    proposals = _refined_proposals(model, test, seed) if config.proposal == "refined" else None
    # One kind of work after the other, on a group of images: what is interleaved image by image finds its code and its
    # data gone from the processor's cache each time, which costs a tenth.
    for group in torch.arange(len(test)).split(max(1, min(GROUP, HELD // samples))):
        places = [slice(place, place + 1) for place in group.tolist()]
        images = [(test.pixels(place), test.labels[place]) for place in places]
        encoders = [amortised(model, x) for x, _ in images]
        estimates: list[Estimate] = []
        of_encoder: list[Estimate] = []
        for place, (x, label), encoder in zip(group.tolist(), images, encoders, strict=True):
            noise = generator(seed, "importance samples", place)
            weigh = partial(estimate, model, x, samples, noise, label=label if model.label_enters else None)
            estimates.append(weigh(proposal=proposals(place) if proposals else encoder))
            of_encoder.append(weigh(proposal=encoder) if proposals else estimates[-1])
        for found in estimates:
            values["iw_log_likelihood_nats"].append(found.marginal.iw_log_likelihood)
            if found.given_label is not None:
                values["iw_log_likelihood_given_label_nats"].append(found.given_label.iw_log_likelihood)
            curve += k_curve(found.marginal.log_weights)
            _health(values, found.marginal)
        for (_, label), encoder, found in zip(images, encoders, of_encoder, strict=True):
            distortion, its_rate = found.marginal.distortion, rate(model, encoder, log_q_y=found.log_q_y)
            values["distortion_nats"].append(distortion)
            values["rate_nats"].append(its_rate)
            values["elbo_nats"].append(-distortion - its_rate)
            if found.given_label is not None:
                rate_given_label = rate(model, encoder, y=label)
                values["elbo_given_label_nats"].append(-found.given_label.distortion - rate_given_label)
        report(places[-1].stop, len(test), f"log-likelihood, K = {samples}")
    vectors = {"k_curve_samples": [*map(float, k_values(weighted))], "k_curve_nats": (curve / len(test)).tolist()}
    return {name: np.asarray(column) for name, column in values.items()}, vectors


def _health(values: dict[str, list[float]], draws: Draws, prefix: str = "") -> None:
    values[f"{prefix}effective_sample_size"].append(effective_sample_size(draws.log_weights))
    samples = len(draws.log_weights)
    if samples >= FEWEST_SAMPLES:
        khat = pareto_k(draws.log_weights)
        values[f"{prefix}pareto_k"].append(khat)
        values[f"{prefix}pareto_k_unreliable_share"].append(float(khat > pareto_k_limit(samples)))


def _refined_proposals(model: LatentVariableModel, test: Split, seed: int) -> Callable[[int], Proposal]:
    """From an image's place to its proposal; those of `GROUP` images are made together when the first is asked for."""
    classes = drawn_classes(model)
    prepared: dict[int, Prepared] = {}

    def proposal(position: int) -> Proposal:
        group = position // GROUP
        if group not in prepared:
            prepared.clear()
            images = range(group * GROUP, min((group + 1) * GROUP, len(test)))
            noise = [
                generator(seed, "refinement", image, label) for image in images for label in range(max(classes, 1))
            ]
            x = test.pixels(slice(images.start, images.stop))
            prepared[group] = Prepared(lambda x, y: refined(model, x, noise, y), x, classes)
        return prepared[group].of(position % GROUP)

    return proposal


def elbo_on_training_images(model: LatentVariableModel, splits: Splits, config: Evaluation, seed: int) -> float:
    """The ELBO's mean over as many training images as there are test images, or all where there are fewer."""
    train = splits.train.fixed("train")
    chosen = torch.randperm(len(train), generator=generator("generalisation gap"))[: len(splits.test)]
    pilot, noise = sharing(config.importance_samples, drawn_classes(model))[0], generator(seed, "training ELBO")
    there = chosen.to(train.labels.device)
    each = [elbo(model, train.pixels(index), ELBO_SAMPLES, pilot, noise) for index in there.split(GROUP)]
    return torch.cat(each).double().mean().item()


def expost_likelihoods(
    model: Autoencoder, splits: Splits, config: Evaluation, seed: int, report: "Report"
) -> tuple[PerImage, float]:
    """Ex-post log-likelihood and its health for `expost.images` test images, the same for every variant; and σ."""
    expost = ExPost(model, splits.train, splits.validation)
    classes = drawn_classes(expost)
    chosen = torch.randperm(len(splits.test), generator=generator("ex-post images"))[: config.expost.images]
    chosen = chosen.sort().values
    values: dict[str, list[float]] = defaultdict(list)
    done = 0
    for group in chosen.split(max(1, GROUP // max(classes, 1))):
        x = splits.test.pixels(group.to(splits.test.labels.device))
        prepared = Prepared(expost.posterior, x, classes)
        for place, position in enumerate(group.tolist()):
            noise = generator(seed, "ex-post samples", position)
            samples = config.expost.importance_samples
            draws = estimate(expost, x[place : place + 1], samples, noise, proposal=prepared.of(place)).marginal
            values["expost_log_likelihood_nats"].append(draws.iw_log_likelihood)
            _health(values, draws, "expost_")
        done += len(group)
        report(done, len(chosen), f"ex-post log-likelihood, K = {config.expost.importance_samples}")
    return {name: np.asarray(column) for name, column in values.items()}, expost.log_sigma.exp().item()
