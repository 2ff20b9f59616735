"""refined: the encoder's q(z|x), refined for each test image by gradient steps.

The encoder is trained to be good for all images at once. A few steps for one image bring q closer to its posterior
(Kim et al. 2018, semi-amortised inference), and a tighter bound follows from fewer samples. The bound stays one: its
samples are drawn afresh, independent of those that the steps were taken with.
"""

from collections.abc import Sequence
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from aebench.errors import ConfigError
from aebench.models.generative import GenerativeModel, Posterior, Prior
from aebench.models.labels import class_priors, rate
from aebench.models.latents import diagonal_normal

STEPS = 20
SAMPLES = 8
LEARNING_RATE = 0.05
# The refined q is too narrow where the posterior is not Gaussian; narrow proposals make for heavy-tailed weights.
WIDENED = 1.2


def require_diagonal_gaussian(q: Posterior) -> Independent[Normal]:
    """The encoder's q, where it can be refined.

    Raises:
        ConfigError: it is no Gaussian with a diagonal covariance.
    """
    if is_diagonal_gaussian(q):
        return q
    raise ConfigError(
        "evaluation.proposal: found refined for a q(z|x) that is no Gaussian with a diagonal covariance, "
        "allowed: laplace, or amortised"
    )


def refined(
    model: GenerativeModel,
    x: Tensor,
    noise: Sequence[torch.Generator],
    y: Tensor | None = None,
    prior: Prior | None = None,
) -> Independent[Normal]:
    """q(z|x) after `STEPS` steps of Adam on each image's ELBO over (μ, log σ²), its σ then multiplied by `WIDENED`.

    Arguments, shapes and errors are those of `stepped`.
    """
    q = stepped(model, x, noise, y, [LEARNING_RATE] * STEPS, prior)
    return Independent(Normal(q.base_dist.loc, WIDENED * q.base_dist.scale), 1)


@torch.enable_grad()
def stepped(
    model: GenerativeModel,
    x: Tensor,
    noise: Sequence[torch.Generator],
    y: Tensor | None,
    learning_rates: Sequence[float],
    prior: Prior | None = None,
) -> Independent[Normal]:
    """q(z|x) after a step of Adam for each of `learning_rates` on each image's ELBO over (μ, log σ²).

    Args:
        model: its weights stay as they are.
        x: `[B, D]`.
        noise: a generator for each row of x, from which the samples of its steps are drawn.
        y: `[B]`, where the label enters q.
        learning_rates: as many as there are steps.
        prior: p(z), where it is made already and no label enters the model.

    Returns:
        Batch shape `[B]`, event shape `[L]`; an image's row depends on the images beside it by rounding alone.

    Raises:
        ConfigError: q is no Gaussian with a diagonal covariance.
    """
    with torch.no_grad():
        q = require_diagonal_gaussian(model.posterior(x, y))
        size = (len(learning_rates), SAMPLES, q.event_shape[0])
        steps = torch.stack([torch.randn(size, generator=each) for each in noise], dim=2).to(x.device)  # [·, ·, B, L]
    mean, log_variance = q.mean.clone().requires_grad_(), q.variance.log().requires_grad_()
    optimizer = torch.optim.Adam([mean, log_variance])
    prior = model.prior(y) if prior is None else prior
    of_joint = y is None and bool(model.conditional_parts)
    for epsilon, learning_rate in zip(steps, learning_rates, strict=True):
        z, q = mean + torch.exp(0.5 * log_variance) * epsilon, diagonal_normal(mean, log_variance)
        distortion = -model.likelihood(z, y).log_prob(x).mean(0)
        divergence = rate(
            model, q, partial(_log_ratio, q, class_priors(model) if of_joint else prior, z, of_joint), y, prior
        )
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = learning_rate
        # A sum, not a mean: each image's gradient is its own.
        (distortion + divergence).sum().backward()
        optimizer.step()
    return Independent(Normal(mean.detach(), torch.exp(0.5 * log_variance.detach())), 1)


def is_diagonal_gaussian(q: object) -> TypeGuard[Independent[Normal]]:
    """Whether q is a Gaussian with a diagonal covariance, which is what can be fitted here."""
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal)


def _log_ratio(q: Distribution, prior: Prior, z: Tensor, of_joint: bool) -> Tensor:
    """log p(z) − log q(z), `[K, B]`, or with `class_priors` `[K, C, B]`."""
    log_q = q.log_prob(z)
    return prior.log_prob(z[:, None]) - log_q[:, None] if of_joint else prior.log_prob(z) - log_q
