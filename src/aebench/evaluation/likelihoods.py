"""What is measured of every image's likelihood: bounds, their health, the generalisation gap, ex-post densities."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from aebench.config import Evaluation
from aebench.data.datasets import Split, Splits
from aebench.errors import Diverged
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
from aebench.evaluation.marginal import Budget, Marginal, split_budget
from aebench.evaluation.proposals import Proposals, importance_budget, propose
from aebench.evaluation.protocol import PerImage
from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel
from aebench.models.labels import PILOT
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import generator

if TYPE_CHECKING:
    from aebench.execution.progress import Report

# Samples of an image's ELBO where the importance samples are not the encoder's, and of a training image's: their mean
# over images needs no more.
ELBO_SAMPLES, ELBO_SAMPLES_IN_TRAINING = 32, 10
# Images that are taken together, fewer where that would mean to hold more than so many importance weights, or so many
# numbers where a class of an image has so many.
GROUP, HELD, HELD_A_CLASS = 100, 1_000_000, 1000

Vectors = dict[str, list[float]]


def likelihoods(
    model: LatentVariableModel, test: Split, config: Evaluation, seed: int, report: "Report"
) -> tuple[PerImage, Vectors]:
    """ELBO, its two parts, the importance-weighted log-likelihood and its health for every image; also given its label.

    The first result has values `[N]` by metric, in nats but for those of health; the second the K-curve's two vectors.
    Every image that is taken by itself has generators of its own. The ELBO is always that of the encoder's q(z|x),
    whatever the importance samples are drawn from.
    """
    samples, marginal, amortised = config.importance_samples, Marginal(model), config.proposal == "amortised"
    weighted = importance_budget(config.proposal, samples, marginal.classes).weighted
    of_elbo = Budget(pilot_of_elbo(config, marginal.classes), ELBO_SAMPLES)
    curve_samples = k_values(weighted)
    values: dict[str, list[Tensor]] = defaultdict(list)
    curve = torch.zeros(len(curve_samples), dtype=torch.float64)
    # One kind of work after the other, on a group of images: what is interleaved image by image finds its code and its
    # data gone from the processor's cache each time, which costs a tenth.
    size = group_size(marginal, samples)
    for group in torch.arange(len(test)).split(size):
        parts = _parts(test, group)
        proposals = _proposals(config.proposal, marginal, parts, seed, size)
        estimates = [
            marginal.estimate(
                part.x,
                samples,
                generator(seed, "importance samples", part.first),
                proposal=proposal.marginal,
                label=part.label(model),
                given_label=proposal.given_label,
                for_rate=amortised,
            )
            for part, proposal in zip(parts, proposals, strict=True)
        ]
        for estimate in estimates:
            values["iw_log_likelihood_nats"].append(estimate.marginal.iw_log_likelihood)
            if estimate.given_label is not None:
                values["iw_log_likelihood_given_label_nats"].append(estimate.given_label.iw_log_likelihood)
            _health(values, estimate.marginal)
        curve += k_curve(torch.cat([estimate.marginal.log_weights for estimate in estimates], dim=1))
        if amortised:
            of_encoder = [(part, proposal.marginal) for part, proposal in zip(parts, proposals, strict=True)]
        else:
            part = _padded(_part(test, group), size)
            of_encoder = [(part, encoder := marginal.amortised(part.x))]
            noise = generator(seed, "ELBO", part.first)
            estimates = [marginal.estimate(part.x, of_elbo, noise, proposal=encoder, label=part.label(model))]
        for (part, encoder), estimate in zip(of_encoder, estimates, strict=True):
            distortion, rate = estimate.marginal.distortion, marginal.rate(encoder, estimate)
            elbo = {"distortion_nats": distortion, "rate_nats": rate, "elbo_nats": -distortion - rate}
            if (label := part.label(model)) is not None and estimate.given_label is not None:
                rate_given_label = marginal.rate_given_label(encoder, estimate, label)
                elbo["elbo_given_label_nats"] = -estimate.given_label.distortion - rate_given_label
            for name, column in elbo.items():
                values[name].append(column[: len(group)])
        report(int(group[-1]) + 1, len(test), f"log-likelihood, K = {samples}")
    vectors = {"k_curve_samples": [*map(float, curve_samples)], "k_curve_nats": (curve / len(test)).tolist()}
    return {name: torch.cat(column).numpy() for name, column in values.items()}, vectors


def pilot_of_elbo(config: Evaluation, classes: int) -> int:
    """How many samples a class lie behind the q(y|x) of the ELBO, for `sampled_classes`."""
    if config.proposal == "amortised":
        return split_budget(config.importance_samples, classes).pilot
    return PILOT if classes else 0


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

    def label(self, model: GenerativeModel) -> Tensor | None:
        """The labels `[B]`, where one enters the model."""
        return self.y if model.conditional_parts else None


def _part(split: Split, places: Tensor) -> _Part:
    there = places.to(split.labels.device)
    return _Part(int(places[0]), split.pixels(there), split.labels[there])


def _padded(part: _Part, size: int) -> _Part:
    """With the last image again and again, so that neither shapes nor draws depend on how many images there are."""
    places = torch.arange(size, device=part.y.device).clamp(max=len(part.y) - 1)
    return _Part(part.first, part.x[places], part.y[places])


def _parts(split: Split, places: Tensor) -> list[_Part]:
    together = _part(split, places)
    if not together.x.is_cpu:
        return [together]
    return [_Part(*each) for each in zip(places.tolist(), together.x.split(1), together.y.split(1), strict=True)]


def group_size(marginal: Marginal, samples: int) -> int:
    """How many images are taken together, with K = `samples` for each."""
    return max(1, min(GROUP, HELD // samples, HELD // (HELD_A_CLASS * max(marginal.classes, 1))))


def _proposals(
    kind: str,
    marginal: Marginal,
    parts: Sequence[_Part],
    seed: int,
    size: int,
    *,
    labelled: bool = True,
    purpose: str = "refinement",
) -> list[Proposals]:
    """Those of each part; what is fitted is fitted to all together, and to as many as `size` images."""

    def of(part: _Part) -> Proposals:
        label = part.label(marginal.model) if labelled else None
        return propose(kind, marginal, part.x, seed=seed, first=part.first, label=label, purpose=purpose)

    if kind == "amortised" or len(parts[0].x) > 1:
        return [of(part) for part in parts]
    together = _Part(parts[0].first, torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))
    proposals = of(_padded(together, size))
    return [Proposals(*(proposal.of(image) for proposal in proposals)) for image in range(len(parts))]


def outside_log_likelihood(
    model: LatentVariableModel, outside: Split, config: Evaluation, seed: int, report: "Report"
) -> Tensor:
    """The importance-weighted log-likelihood of M outside images in nats, `[M]`, found as that of test images.

    Raises:
        Diverged: the decoder's derivative is not finite at one of them.
    """
    samples = config.importance_samples
    estimates = _without_labels(
        *(Marginal(model), outside, torch.arange(len(outside)), config.proposal, samples, seed, "outside samples"),
        lambda done: report(done, len(outside), f"log-likelihood of outside images, K = {samples}"),
    )
    try:
        return torch.cat([draws.iw_log_likelihood for draws in estimates])
    except Diverged as error:
        raise Diverged(f"an outside image: {error}") from None


def _without_labels(
    marginal: Marginal,
    split: Split,
    places: Tensor,
    proposal: str,
    samples: int,
    seed: int,
    purpose: str,
    report: Callable[[int], None],
) -> Iterator[Draws]:
    """Importance weights of the images at `places`, in ascending order, whose labels are not looked at.

    Every image that is taken by itself has a generator of its own, for `purpose`. `report` is told how many are done.
    """
    size = group_size(marginal, samples)
    for done, group in enumerate(places.split(size)):
        parts = _parts(split, group)
        of_each = _proposals(proposal, marginal, parts, seed, size, labelled=False, purpose=f"refinement, {purpose}")
        for part, of_part in zip(parts, of_each, strict=True):
            noise = generator(seed, purpose, part.first)
            yield marginal.estimate(part.x, samples, noise, proposal=of_part.marginal, for_rate=False).marginal
        report(done * size + len(group))


def elbo_on_training_images(model: LatentVariableModel, splits: Splits, config: Evaluation, seed: int) -> float:
    """The ELBO's mean in nats over as many training images as there are test images, or all where there are fewer."""
    train, marginal = splits.train.fixed("train"), Marginal(model)
    chosen = torch.randperm(len(train), generator=generator("generalisation gap"))[: len(splits.test)]
    budget = Budget(pilot_of_elbo(config, marginal.classes), ELBO_SAMPLES_IN_TRAINING)
    noise, there = generator(seed, "training ELBO"), chosen.to(train.labels.device)
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
    for draws in _without_labels(
        *(marginal, splits.test, chosen.sort().values, "laplace", samples, seed, "ex-post samples"),
        lambda done: report(done, len(chosen), f"ex-post log-likelihood, K = {samples}"),
    ):
        values["expost_log_likelihood_nats"].append(draws.iw_log_likelihood)
        _health(values, draws, "expost_")
    return {name: torch.cat(column).numpy() for name, column in values.items()}, expost.log_sigma.exp().item()
