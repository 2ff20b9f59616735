"""The quantities that are optimised and estimated, as the papers write them.

Every file here is an objective, and its name is the `objective` that params.yaml gives to a variant. A file holds
`Config`, an `aebench.config.ObjectiveConfig` with its own settings, and
`loss(config, model, prior, x, y, noise, beta)`, which gives `loss`, `distortion_nats` and `rate_nats` at least, as
`elbo.py` does.

Shapes: B images of D pixels, latents of L dimensions, K samples. Everything is summed over pixels and latents
and returned for each image; the mean over images is taken once, by the caller. Unit: nats, except squared errors.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor
from torch.distributions import Distribution

from aebench.config import ObjectiveConfig
from aebench.models.generative import GenerativeModel, Posterior, Prior, divergence
from aebench.models.likelihoods import Likelihood
from aebench.plugins import configurations, modules

Values = TypeVar("Values", float, Tensor, NDArray[Any])

_EPSILON = torch.finfo(torch.float32).eps


class Unweighted(ObjectiveConfig):
    """One that has no divergence to weigh."""

    @model_validator(mode="after")
    def _no_weight(self) -> "Unweighted":
        for key, value, allowed in (("beta", self.beta, 1), ("beta_warmup_epochs", self.beta_warmup_epochs, 0)):
            if value != allowed:
                raise ValueError(f"{key}: found {value} with objective {self.objective}, allowed: {allowed}")
        return self


def objectives() -> dict[str, type[ObjectiveConfig]]:
    """For every objective its configuration, the class named `Config` in its file."""
    return configurations(__name__, ObjectiveConfig, "loss")


def loss(
    config: ObjectiveConfig,
    model: GenerativeModel,
    prior: Prior,
    x: Tensor,
    y: Tensor,
    noise: Tensor,
    epoch: int | None,
) -> dict[str, Tensor]:
    """The loss of each image and its parts, nats, `[B]` each; `loss` is what training minimises.

    Args:
        config: which one.
        model: its posterior and likelihood.
        prior: p(z), or p(z|y), as it is for these images: in training it may be another than the model's.
        x: `[B, D]`.
        y: `[B]`, which the model conditions on or leaves alone.
        noise: standard normal, `[*config.draws, B, L]`.
        epoch: from 1, for the warm-up; None: after it.
    """
    beta = kl_weight(config.beta, config.beta_warmup_epochs, epoch)
    terms: dict[str, Tensor] = modules(__name__)[config.objective].loss(config, model, prior, x, y, noise, beta)
    return terms


def squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """‖x − x̂‖², summed over pixels: `[..., D]`, `[..., D]` → `[...]`."""
    return (x - x_hat).square().sum(-1)


def binary_cross_entropy(x: Tensor, x_hat: Tensor) -> Tensor:
    """−Σ [x log x̂ + (1 − x) log(1 − x̂)] over pixels, in nats: `[..., D]`, `[..., D]` → `[...]`.

    x̂ is kept one float32 epsilon (1.2e-7) away from 0 and 1, so a pixel costs at most 16 nats.
    """
    p = x_hat.clamp(_EPSILON, 1 - _EPSILON)
    return -(x * p.log() + (1 - x) * torch.log1p(-p)).sum(-1)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log (1/K) Σ_k w_k over the first dimension, in nats: log w `[K, ...]` → `[...]` (Burda et al. 2016, eq. 8)."""
    return torch.logsumexp(log_weights, dim=0) - math.log(log_weights.shape[0])


def bits_per_dimension(log_px: Values, dimensions: int) -> Values:
    """−log p(x) / (D ln 2) (Theis et al. 2016, §3.1): log p(x) in nats, of any shape, → bits.

    They are of each of an image's D = C·H·W dimensions. Those of a density in [0, 1] are 8 fewer than those of the
    probabilities of 256 values which it stands for, so they compare with their like alone.
    """
    return -log_px / (dimensions * math.log(2))


def kl_weight(beta: float, warmup_epochs: int, epoch: int | None) -> float:
    """β in `epoch` (from 1), rising linearly to its value in the last warm-up epoch (Sønderby et al. 2016).

    None: after the warm-up.
    """
    if epoch is None or epoch >= warmup_epochs:
        return beta
    return beta * epoch / warmup_epochs


def variational_loss(
    q: Posterior,
    prior: Prior,
    likelihood: Callable[[Tensor], Likelihood],
    x: Tensor,
    z: Tensor,
    log_q: Tensor | None = None,
    *,
    beta: float = 1.0,
) -> dict[str, Tensor]:
    """−E_q log p(x|z) + β KL(q‖p) with one reparameterised sample (Kingma & Welling 2014, eq. 10).

    Args:
        q: q(z|x), batch shape `[B]`, event shape `[L]`.
        prior: p(z) or p(z|y).
        likelihood: p(x|z) for z of shape `[B, L]`.
        x: `[B, D]`.
        z: a reparameterised sample of q, `[B, L]`.
        log_q: log q(z|x), `[B]`, where q does not tell it of z.
        beta: weight of the divergence (Higgins et al. 2017).

    Returns:
        `loss` and its two parts `distortion_nats` and `rate_nats` (before β; in closed form where there is one, else
        from the same sample), `[B]` each.
    """
    distortion = -likelihood(z).log_prob(x)

    def log_ratio() -> Tensor:
        return (prior.log_prob(z) - (log_prob(q, z) if log_q is None else log_q))[None]

    rate = divergence(q, prior, log_ratio)
    return {"loss": distortion + beta * rate, "distortion_nats": distortion, "rate_nats": rate}


def importance_weighted_loss(
    q: Posterior,
    prior: Prior,
    likelihood: Callable[[Tensor], Likelihood],
    x: Tensor,
    z: Tensor,
    log_q: Tensor | None = None,
) -> dict[str, Tensor]:
    """The negative importance-weighted bound (Burda et al. 2016, eq. 8) with k reparameterised samples z `[k, B, L]`.

    All other arguments are those of `variational_loss`, but that log_q is `[k, B]`.

    Returns:
        `loss`, `distortion_nats` (the mean over the samples) and `rate_nats` (in closed form where there is one), `[B]`
        each; the loss is at most the sum of the other two in expectation.
    """
    log_px_given_z = likelihood(z).log_prob(x)
    log_p, log_q = prior.log_prob(z), log_prob(q, z) if log_q is None else log_q
    return {
        "loss": -importance_weighted_bound(log_px_given_z + log_p - log_q),
        "distortion_nats": -log_px_given_z.mean(0),
        "rate_nats": divergence(q, prior, lambda: log_p - log_q),
    }


def log_prob(q: Posterior, z: Tensor) -> Tensor:
    """log q(z) in nats, `[..., B, L]` → `[..., B]`.

    Raises:
        TypeError: q tells it of its own samples alone.
    """
    if not isinstance(q, Distribution):
        raise TypeError(f"log_q is needed: {type(q).__name__} tells no density of a given z")
    return q.log_prob(z)
