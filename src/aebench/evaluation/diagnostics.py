"""Health: how far an importance-weighted estimate can be trusted, and which latent dimensions are used."""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from aebench.models.generative import GenerativeModel
from aebench.models.labels import class_log_posterior
from aebench.models.objectives import importance_weighted_bound

# The generalised Pareto distribution is fitted to at least 5 weights, the largest fifth of K.
FEWEST_SAMPLES = 25
# Log weights that differ by less are equal: the rest is rounding.
NEGLIGIBLE = 1e-9
# A latent dimension is active where its posterior mean varies by more than this (Burda et al. 2016, §5.2).
ACTIVE = 0.01


def effective_sample_size(log_weights: Tensor) -> float:
    """(Σ w)² / Σ w² of K weights, from log w `[K]`: between 1 and K (Kong 1992)."""
    return math.exp(2 * torch.logsumexp(log_weights, 0).item() - torch.logsumexp(2 * log_weights, 0).item())


def pareto_k(log_weights: Tensor) -> float:
    """The shape k̂ of a generalised Pareto distribution fitted to the largest of K weights (Vehtari et al. 2024).

    It comes from log w `[K]`, K at least `FEWEST_SAMPLES`. −∞ where the largest are all equal, which leaves no tail;
    ∞ where they are too unequal for a fit. It is rounded far below its own error: the fit calls log1p, whose last bits
    another version of the C library may give otherwise.
    """
    from arviz_stats.base.array import array_stats

    log_ratios = (log_weights - log_weights.max()).cpu().numpy()
    largest = np.sort(log_ratios)[-int(min(len(log_ratios) / 5, 3 * len(log_ratios) ** 0.5)) :]
    if largest[0] > -NEGLIGIBLE:
        return -math.inf
    if largest[0] < math.log(np.finfo(np.float64).tiny):
        return math.inf
    with np.errstate(all="ignore"):
        khat = array_stats.pareto_khat(np.exp(log_ratios), chain_axis=None, r_eff=1.0, tail="right")
    return round(float(khat), 6) if math.isfinite(khat) else math.inf


def pareto_k_limit(samples: int) -> float:
    """Above this k̂ an estimate from K samples is unreliable: min(1 − 1/log₁₀ K, 0.7) (Vehtari et al. 2024, §3.2.4)."""
    return min(1 - 1 / math.log10(samples), 0.7)


def k_values(samples: int) -> list[int]:
    """1, 10, 100, … and K itself."""
    return [*(10**power for power in range(math.ceil(math.log10(samples)))), samples]


def k_curve(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound in nats at each of `k_values`, summed over images, from log w `[K, B]`.

    Each is the mean over all disjoint blocks of so many of the same samples; what does not fill a block is left out.
    """
    samples, images = log_weights.shape
    curve = []
    for size in k_values(samples):
        blocks = log_weights[: samples // size * size].view(-1, size, images)
        curve.append(importance_weighted_bound(blocks.transpose(0, 1)).mean(0).sum())
    return torch.stack(curve)


@runtime_checkable
class OfLevels(Protocol):
    """q(z|x) of several levels, where p(z) of the lower ones depends on those above."""

    @property
    def mean_beyond_prior(self) -> Tensor:
        """The mean of z less that of p, given the levels above where there are some, `[B, L]`."""


@torch.no_grad()
def mean_beyond_prior(model: GenerativeModel, x: Tensor) -> Tensor | None:
    """What the mean of q(z|x) has of the image, `[B, L]`; None where there is one level, whose code it is.

    The means of p(z₁|z₂) vary with z₂, and those of a q(z₁|x, z₂) that has collapsed to it do the same.
    """
    if "posterior" in model.conditional_parts:
        return None
    q = model.posterior(x)
    return q.mean_beyond_prior if isinstance(q, OfLevels) else None


@torch.no_grad()
def rate_per_dimension(model: GenerativeModel, x: Tensor) -> Tensor | None:
    """The share of each latent dimension in the rate, `[B, L]` in nats; None where it does not fall into dimensions.

    KL(q(z_d|x) ‖ p(z_d)), with labels Σ_y q(y|x) KL(q(z_d|x, y) ‖ p(z_d|y)); what the rate has beyond their sum is
    KL(q(y|x) ‖ p(y)), the label's own.
    """
    if not model.conditional_parts:
        return _each_dimension(model, x, None)
    shares = class_log_posterior(model, x).exp()
    total = x.new_zeros(())
    for label in range(shares.shape[-1]):
        each = _each_dimension(model, x, torch.full((len(x),), label, device=x.device))
        if each is None:
            return None
        total = total + shares[:, label : label + 1] * each
    return total


def _each_dimension(model: GenerativeModel, x: Tensor, y: Tensor | None) -> Tensor | None:
    q, p = model.posterior(x, y), model.prior(y)
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        return None
    try:
        return kl_divergence(q.base_dist, p.base_dist)
    except NotImplementedError:
        return None
