"""What is measured of every image's likelihood: bounds, their health, the generalisation gap, ex-post densities."""

from collections import defaultdict
from dataclasses import dataclass
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
    amortised,
    drawn_classes,
    elbo,
    estimate,
    estimates,
    rate,
    rates,
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

    The first result has values `[N]` by metric, in nats but for those of health; the second the K-curve's two vectors.
    On the CPU every image has generators of its own, so its value does not depend on the images beside it; a GPU takes
    groups. The ELBO is always that of the encoder's q(z|x), whatever the importance samples are drawn from.
    """
    samples = config.importance_samples
    weighted = sharing(samples, drawn_classes(model))[1]
    values: dict[str, list[float]] = defaultdict(list)
    curve = np.zeros(len(k_values(weighted)))
    measure = _one_by_one if test.images.is_cpu else _together
    refining = config.proposal == "refined"
    # One kind of work after the other, on a group of images: what is interleaved image by image finds its code and its
    # data gone from the processor's cache each time, which costs a tenth.
    for group in torch.arange(len(test)).split(max(1, min(GROUP, HELD // samples))):
        places = slice(int(group[0]), int(group[-1]) + 1)
        found = measure(model, test, places, samples, seed, refining)
        for weighed in found.weighed:
            values["iw_log_likelihood_nats"].append(weighed.marginal.iw_log_likelihood)
            if weighed.given_label is not None:
                values["iw_log_likelihood_given_label_nats"].append(weighed.given_label.iw_log_likelihood)
            curve += k_curve(weighed.marginal.log_weights)
            _health(values, weighed.marginal)
        for encoded, its_rate, rate_given_label in zip(
            found.encoded, found.rates, found.rates_given_label, strict=True
        ):
            distortion = encoded.marginal.distortion
            values["distortion_nats"].append(distortion)
            values["rate_nats"].append(its_rate)
            values["elbo_nats"].append(-distortion - its_rate)
            if encoded.given_label is not None:
                values["elbo_given_label_nats"].append(-encoded.given_label.distortion - rate_given_label)
        report(places.stop, len(test), f"log-likelihood, K = {samples}")
    vectors = {"k_curve_samples": [*map(float, k_values(weighted))], "k_curve_nats": (curve / len(test)).tolist()}
    return {name: np.asarray(column) for name, column in values.items()}, vectors


def _health(values: dict[str, list[float]], draws: Draws, prefix: str = "") -> None:
    values[f"{prefix}effective_sample_size"].append(effective_sample_size(draws.log_weights))
    samples = len(draws.log_weights)
    if samples >= FEWEST_SAMPLES:
        khat = pareto_k(draws.log_weights)
        values[f"{prefix}pareto_k"].append(khat)
        values[f"{prefix}pareto_k_unreliable_share"].append(float(khat > pareto_k_limit(samples)))


@dataclass(frozen=True)
class _Measured:
    """Of each image of a group: its importance weights, those of the encoder's own proposal, and that one's rates."""

    weighed: list[Estimate]
    encoded: list[Estimate]
    rates: list[float]
    rates_given_label: list[float]


def _one_by_one(
    model: LatentVariableModel, test: Split, places: slice, samples: int, seed: int, refining: bool
) -> _Measured:
    """On the CPU; each image has a generator of its own."""
    images = range(places.start, places.stop)
    each = list(zip(test.pixels(places).split(1), test.labels[places].split(1), strict=True))
    encoders = [amortised(model, x) for x, _ in each]
    refined_proposals = _refined(model, test, places, seed) if refining else None
    weighed: list[Estimate] = []
    encoded: list[Estimate] = []
    for place, image, (x, label), encoder in zip(range(len(each)), images, each, encoders, strict=True):
        noise = generator(seed, "importance samples", image)
        weigh = partial(estimate, model, x, samples, noise, label=label if model.label_enters else None)
        weighed.append(weigh(proposal=refined_proposals.of(place) if refined_proposals else encoder))
        encoded.append(weigh(proposal=encoder) if refining else weighed[-1])
    rates_of_each = [rate(model, q, log_q_y=found.log_q_y) for q, found in zip(encoders, encoded, strict=True)]
    given = [
        rate(model, q, y=label) if model.label_enters else 0.0 for q, (_, label) in zip(encoders, each, strict=True)
    ]
    return _Measured(weighed, encoded, rates_of_each, given)


def _together(
    model: LatentVariableModel, test: Split, places: slice, samples: int, seed: int, refining: bool
) -> _Measured:
    """On a GPU; the group has one generator."""
    x, label = test.pixels(places), test.labels[places] if model.label_enters else None
    encoder = Prepared(model.posterior, x, drawn_classes(model))
    noise = generator(seed, "importance samples", places.start)
    weigh = partial(estimates, model, x=x, samples=samples, generator=noise, label=label)
    weighed = weigh(_refined(model, test, places, seed) if refining else encoder)
    encoded = weigh(encoder) if refining else weighed
    log_q_y = [found.log_q_y for found in encoded if found.log_q_y is not None]
    return _Measured(
        weighed,
        encoded,
        rates(model, encoder, log_q_y=torch.stack(log_q_y) if log_q_y else None),
        rates(model, encoder, y=label) if label is not None else [0.0] * len(x),
    )


def _refined(model: LatentVariableModel, test: Split, places: slice, seed: int) -> Prepared:
    """The refined proposals of a group of images."""
    classes, images = drawn_classes(model), range(places.start, places.stop)
    noise = [generator(seed, "refinement", image, label) for image in images for label in range(max(classes, 1))]
    return Prepared(lambda x, y: refined(model, x, noise, y), test.pixels(places), classes)


def elbo_on_training_images(model: LatentVariableModel, splits: Splits, config: Evaluation, seed: int) -> float:
    """The ELBO's mean in nats over as many training images as there are test images, or all where there are fewer."""
    train = splits.train.fixed("train")
    chosen = torch.randperm(len(train), generator=generator("generalisation gap"))[: len(splits.test)]
    pilot, noise = sharing(config.importance_samples, drawn_classes(model))[0], generator(seed, "training ELBO")
    there = chosen.to(train.labels.device)
    each = [elbo(model, train.pixels(index), ELBO_SAMPLES, pilot, noise) for index in there.split(GROUP)]
    return torch.cat(each).double().mean().item()


def expost_likelihoods(
    model: Autoencoder, splits: Splits, config: Evaluation, seed: int, report: "Report"
) -> tuple[PerImage, float]:
    """Ex-post log-likelihood in nats and its health for `expost.images` test images, the same for every variant; and σ.

    Raises:
        Diverged: the decoder's derivative is not finite.
    """
    expost = ExPost(model, splits.train, splits.validation)
    classes = drawn_classes(expost)
    chosen = torch.randperm(len(splits.test), generator=generator("ex-post images"))[: config.expost.images]
    chosen = chosen.sort().values
    values: dict[str, list[float]] = defaultdict(list)
    done = 0
    for group in chosen.split(max(1, GROUP // max(classes, 1))):
        x = splits.test.pixels(group.to(splits.test.labels.device))
        prepared, samples = Prepared(expost.posterior, x, classes), config.expost.importance_samples
        noise = [generator(seed, "ex-post samples", position) for position in group.tolist()]
        if x.is_cpu:
            each = [
                estimate(expost, image, samples, of_image, proposal=prepared.of(place))
                for place, (image, of_image) in enumerate(zip(x.split(1), noise, strict=True))
            ]
        else:
            each = estimates(expost, prepared, x, samples, noise[0])
        for found in each:
            values["expost_log_likelihood_nats"].append(found.marginal.iw_log_likelihood)
            _health(values, found.marginal, "expost_")
        done += len(group)
        report(done, len(chosen), f"ex-post log-likelihood, K = {config.expost.importance_samples}")
    return {name: np.asarray(column) for name, column in values.items()}, expost.log_sigma.exp().item()
