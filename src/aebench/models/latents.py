"""p(z), p(z|y) and q(z|x): torch distributions over latents of L dimensions, event shape `[L]`."""

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.distributions.kl import register_kl


def diagonal_normal(mean: Tensor, log_variance: Tensor) -> Independent[Normal]:
    """N(mean, diag exp(log_variance)), both `[..., L]`."""
    return Independent(Normal(mean, torch.exp(0.5 * log_variance), validate_args=False), 1, validate_args=False)


def unit_normal(mean: Tensor) -> Independent[Normal]:
    """N(mean, I), mean `[..., L]`."""
    return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)


def normal_mixture(means: Tensor, log_weights: Tensor) -> MixtureSameFamily:
    """Σ_y weight_y N(mean_y, I): means `[C, L]`, log_weights `[C]`."""
    weights = Categorical(logits=log_weights, validate_args=False)
    return MixtureSameFamily(weights, unit_normal(means), validate_args=False)


@register_kl(Independent, MixtureSameFamily)
def _kl_to_mixture(q: Independent[Normal], p: MixtureSameFamily) -> Tensor:
    """−log Σ_y p(y) exp(−KL(q‖p(z|y))): the divergence of the joint (z, y) under the best q(y|x), in nats.

    The best q(y|x) is proportional to p(y) exp(−KL(q‖p(z|y))). The result is never negative, and never less than
    the divergence of z alone (Hershey & Olsen 2007, eq. 18, for one component in q).
    """
    assert isinstance(p.component_distribution, Independent)
    component = p.component_distribution.base_dist
    each_class: Distribution = Independent(
        Normal(component.loc.unsqueeze(-2), component.scale.unsqueeze(-2), validate_args=False),
        1,
        validate_args=False,
    )  # batch shape [C, 1], beside q's [B]
    log_p_y = p.mixture_distribution.logits.unsqueeze(-1)
    return -torch.logsumexp(log_p_y - kl_divergence(q, each_class), dim=0)
