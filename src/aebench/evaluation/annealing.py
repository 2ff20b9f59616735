"""Annealed importance sampling (Neal 2001; Wu et al. 2017): a referee of log p̂(x), for any p(z) and p(x|z).

The chains of an image begin at samples of q(z|x) and are led to p(x, z) along f_t(z) = q(z|x)^(1 − β_t) p(x, z)^β_t,
0 = β_0 < … < β_T = 1. A chain's weight is Π_t f_t(z_t) / f_{t−1}(z_t), where z_1 ~ q and z_{t+1} comes from z_t by a
transition that leaves f_t as it is. Its mean is p(x), whatever q and T; with T = 1 it is that of importance sampling.

The transitions are those of Hamiltonian Monte Carlo (Neal 2011), its mass matrix the precision of q. Their step sizes
come from a pilot with random numbers of its own, and stand before the chains that are weighted begin. A step size that
followed those chains would not leave f_t as it is, and the result would be no bound.

Shapes: B images of D pixels, L latents, K chains an image, T temperatures. Where q or p(x|z) takes a label, each class
has chains of its own: a row is an image, or an image and class; there are R = B·max(C, 1) rows.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Self, final

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from aebench.errors import ConfigError
from aebench.evaluation.marginal import BatchedProposal
from aebench.models.generative import GenerativeModel, Posterior, Prior, rows
from aebench.models.labels import sampled_classes
from aebench.randomness import drawing_from, generator

CHAINS, TEMPERATURES = 16, 200
# Few steps a transition and many temperatures make for more even weights from the same gradients than the reverse.
LEAPFROG_STEPS = 2
# β rises as a sigmoid does between ±STEEPNESS: slowly near q and near the posterior (Wu et al. 2017, §4.1).
STEEPNESS = 4.0
# Each transition's step size is its row's times 1 ± JITTER, so that trajectories do not end time and again where they
# began (Neal 2011, §3.2).
JITTER = 0.2
# The pilot. Its step sizes begin to follow the acceptance before the first temperature.
PILOT_CHAINS, PILOT_TEMPERATURES, PILOT_WARMUP = 16, 50, 20
FIRST_STEP_SIZE, ACCEPTANCE, GAIN = 0.5, 0.8, 0.5
# Points of the latent space that are decoded together: images are taken together until their chains are so many.
POINTS = 512


class Annealed(NamedTuple):
    """The chains of B images.

    `log_weights`: of each chain, in nats: float64, `[K, B]`, on the CPU; a label is summed out. `acceptance`: the
    mean probability with which transitions were accepted, `[B]`; NaN where there were none.
    """

    log_weights: Tensor
    acceptance: Tensor


def standard_error(log_weights: Tensor) -> Tensor:
    """That of log (1/K) Σ_k w_k in nats, by the delta method, from log w `[K, B]`: `[B]`, and NaN where K is 1.

    It is sd(w) / (√K · mean(w)). Where one weight outweighs all others it is too small.
    """
    samples, shares = len(log_weights), torch.softmax(log_weights, dim=0)
    return (samples * (shares - 1 / samples).square().sum(0) / (samples - 1)).sqrt()


@torch.no_grad()
def annealed(
    model: GenerativeModel,
    x: Tensor,
    proposal: BatchedProposal,
    seed: int,
    *,
    first: int = 0,
    chains: int = CHAINS,
    temperatures: int = TEMPERATURES,
) -> Annealed:
    """log p(x) of B images by annealing from their proposals, the label summed out.

    Memory does not grow with B, but for the weights; all chains of one image are in it together. An image's value
    depends on those beside it by rounding alone.

    Args:
        model: p.
        x: `[B, D]`.
        proposal: of these images. Its q is a torch distribution with a gradient of log q and a standard deviation.
        seed: of all random numbers, with an image's number.
        first: the number of the first of the images.
        chains: K.
        temperatures: T.

    Raises:
        ConfigError: q is no such distribution.
    """
    q, classes = _annealable(proposal.q), sampled_classes(model)
    each = max(1, classes)
    of_label = bool(classes) and "prior" in model.conditional_parts
    prior = None if of_label else model.prior()
    together = max(1, POINTS // (max(chains, PILOT_CHAINS) * each))
    done = []
    for places in torch.arange(len(x)).split(together):
        start, end = int(places[0]), int(places[-1]) + 1
        y = torch.arange(classes, device=x.device).repeat(end - start) if classes else None
        path = _Path(
            model=model,
            q=_of_images(q, start, end, each),
            prior=model.prior(y) if prior is None else prior,
            x=x[start:end].repeat_interleave(each, dim=0),
            y=y,
        )
        noise = partial(_Noise, seed=seed, images=range(first + start, first + end), each=each, like=x)
        sizes = _step_sizes(path, noise(purpose="annealing pilot")) if temperatures > 1 else x.new_zeros(0)
        log_weights, acceptance = _chains(path, noise(purpose="annealing"), chains, temperatures, sizes)
        if classes:
            log_weights = log_weights + model.log_class_shares.double().repeat(end - start)
        of_image = log_weights.unflatten(1, (-1, each)).logsumexp(-1)
        done.append(Annealed(of_image.cpu(), acceptance.unflatten(0, (-1, each)).mean(-1).cpu()))
    return Annealed(torch.cat([part.log_weights for part in done], 1), torch.cat([part.acceptance for part in done]))


def schedule(temperatures: int) -> list[float]:
    """β_0 = 0 to β_T = 1 (Wu et al. 2017, §4.1)."""
    ends = torch.tensor([-STEEPNESS, STEEPNESS], dtype=torch.float64).sigmoid()
    inside = torch.linspace(-STEEPNESS, STEEPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    betas: list[float] = ((inside - ends[0]) / (ends[1] - ends[0])).tolist()
    return betas


@final
class _Noise:
    """Random numbers for rows, from a generator for each image."""

    def __init__(self, seed: int, purpose: str, images: Sequence[int], each: int, like: Tensor) -> None:
        self._generators = [generator(seed, purpose, image) for image in images]
        self._each, self._like = each, like

    def normal(self, chains: int, latents: int) -> Tensor:
        """`[K, R, L]`."""
        parts = [torch.randn(chains, self._each, latents, generator=source) for source in self._generators]
        return torch.cat(parts, dim=1).to(self._like)

    def uniform(self, chains: int) -> Tensor:
        """`[K, R]`."""
        parts = [torch.rand(chains, self._each, generator=source) for source in self._generators]
        return torch.cat(parts, dim=1).to(self._like)

    def samples(self, q: Distribution, chains: int) -> Tensor:
        """z ~ q, `[K, R, L]`."""
        parts = []
        for image, source in enumerate(self._generators):
            of_image = _of_images(q, image, image + 1, self._each)
            with drawing_from(source):
                parts.append(of_image.sample(torch.Size((chains,))))
        return torch.cat(parts, dim=1)


class _Points(NamedTuple):
    """Where chains are: z `[K, R, L]`, log q and log p(x, z) there `[K, R]`, and the gradients of both `[K, R, L]`."""

    z: Tensor
    log_q: Tensor
    log_joint: Tensor
    slope_of_q: Tensor
    slope_of_joint: Tensor

    def log_f(self, beta: float) -> Tensor:
        """(1 − β) log q + β log p(x, z), `[K, R]`."""
        return torch.lerp(self.log_q, self.log_joint, beta)

    def slope(self, beta: float) -> Tensor:
        """Its gradient, `[K, R, L]`."""
        return torch.lerp(self.slope_of_q, self.slope_of_joint, beta)

    def where(self, chosen: Tensor, others: Self) -> "_Points":
        """These at the chains `chosen` `[K, R]`, elsewhere `others`."""
        z, log_q, log_joint, slope_of_q, slope_of_joint = (
            torch.where(chosen if ours.dim() == 2 else chosen.unsqueeze(-1), ours, theirs)
            for ours, theirs in zip(self, others, strict=True)
        )
        return _Points(z, log_q, log_joint, slope_of_q, slope_of_joint)


@final
class _Path:
    """From q(z|x) to p(x, z), for some rows."""

    def __init__(self, model: GenerativeModel, q: Distribution, prior: Prior, x: Tensor, y: Tensor | None) -> None:
        self.q, self._prior, self._x = q, prior, x
        self._likelihood = partial(model.likelihood, y=y)
        # z = mean + scale @ u makes of a Gaussian q a standard one of u, and nearly that of the posterior: there one
        # step size suits all directions. The mean is not needed.
        self._scale = q.scale_tril if isinstance(q, MultivariateNormal) else torch.diag_embed(q.stddev)

    def at(self, z: Tensor) -> _Points:
        with torch.enable_grad():
            z = z.requires_grad_()
            log_q, log_joint = self.q.log_prob(z), self._prior.log_prob(z) + self._likelihood(z).log_prob(self._x)
            slopes = [torch.autograd.grad(each.sum(), z)[0] for each in (log_q, log_joint)]
        return _Points(z.detach(), log_q.detach(), log_joint.detach(), *slopes)

    def move(self, points: _Points, beta: float, step_size: Tensor, noise: _Noise) -> tuple[_Points, Tensor]:
        """A transition that leaves f as it is, and the probability with which it was accepted, `[K, R]`."""
        chains, _, latents = points.z.shape
        momentum = begun = noise.normal(chains, latents)
        step = (step_size * (1 + JITTER * (2 * noise.uniform(chains) - 1))).unsqueeze(-1)
        proposed = points
        for _ in range(LEAPFROG_STEPS):
            momentum = momentum + 0.5 * step * self._whitened(proposed.slope(beta))
            proposed = self.at(proposed.z + step * torch.einsum("rij,krj->kri", self._scale, momentum))
            momentum = momentum + 0.5 * step * self._whitened(proposed.slope(beta))
        kinetic_energy_lost = 0.5 * (begun.square() - momentum.square()).sum(-1)
        log_ratio = (proposed.log_f(beta) - points.log_f(beta) + kinetic_energy_lost).nan_to_num(
            nan=-math.inf, neginf=-math.inf
        )
        return proposed.where(_accepted(log_ratio, noise.uniform(chains)), points), log_ratio.exp().clamp(max=1)

    def _whitened(self, slope: Tensor) -> Tensor:
        """The gradient in u, `[K, R, L]`."""
        return torch.einsum("rij,kri->krj", self._scale, slope)


def _accepted(log_ratio: Tensor, uniform: Tensor) -> Tensor:
    """Whether a transition is made, with the probability min(1, ratio) of Metropolis et al. (1953)."""
    return uniform.log() < log_ratio


def _step_sizes(path: _Path, noise: _Noise) -> Tensor:
    """One for each temperature of the pilot and row, `[PILOT_TEMPERATURES, R]`, with an acceptance near `ACCEPTANCE`.

    After each transition a row's step size grows or shrinks with the acceptance of its chains (Robbins & Monro 1951).
    """
    points = path.at(noise.samples(path.q, PILOT_CHAINS))
    size, sizes = points.z.new_full(points.log_q.shape[1:], FIRST_STEP_SIZE), []
    for beta in [0.0] * PILOT_WARMUP + schedule(PILOT_TEMPERATURES)[1:]:
        points, acceptance = path.move(points, beta, size, noise)
        size = size * torch.exp(GAIN * (acceptance.mean(0) - ACCEPTANCE))
        sizes.append(size)
    return torch.stack(sizes[PILOT_WARMUP:])


def _chains(path: _Path, noise: _Noise, chains: int, temperatures: int, step_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """log w `[K, R]`, float64, and the mean acceptance `[R]`."""
    betas = schedule(temperatures)
    points = path.at(noise.samples(path.q, chains))
    log_weights = torch.zeros_like(points.log_q, dtype=torch.float64)
    accepted = torch.zeros_like(points.log_q)
    for t in range(1, temperatures + 1):
        log_weights += (betas[t] - betas[t - 1]) * (points.log_joint - points.log_q).double()
        if t < temperatures:
            step_size = step_sizes[t * PILOT_TEMPERATURES // temperatures]
            points, acceptance = path.move(points, betas[t], step_size, noise)
            accepted += acceptance
    return log_weights, accepted.mean(0) / (temperatures - 1 or math.nan)


def _annealable(q: Posterior) -> Distribution:
    try:
        if isinstance(q, Distribution) and isinstance(q.stddev, Tensor):
            return q
    except NotImplementedError:
        pass
    raise ConfigError(
        f"annealing: found a {type(q).__name__} for q(z|x), "
        "allowed: a torch distribution with a standard deviation that it knows"
    )


def _of_images(q: Distribution, first: int, last: int, each: int) -> Distribution:
    """The rows of some images, of which each has so many."""
    of_images = rows(q, slice(first * each, last * each))
    assert isinstance(of_images, Distribution)
    return of_images
