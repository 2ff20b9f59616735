"""p(z), p(z|y) and q(z|x): torch distributions over latents of L dimensions, event shape `[L]`."""

import math
from typing import final

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal


def diagonal_normal(mean: Tensor, log_variance: Tensor) -> Independent[Normal]:
    """N(mean, diag exp(log_variance)), both `[..., L]`."""
    return Independent(Normal(mean, torch.exp(0.5 * log_variance), validate_args=False), 1, validate_args=False)


def unit_normal(mean: Tensor) -> Independent[Normal]:
    """N(mean, I), mean `[..., L]`."""
    return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)


def reparameterised(q: Independent[Normal], noise: Tensor) -> Tensor:
    """z = μ + σ·ε, which is a sample of q for ε ~ N(0, I), `[..., B, L]` both (Kingma & Welling 2014, §2.4)."""
    return q.base_dist.loc + noise * q.base_dist.scale


@final
class UnitNormalMixture(MixtureSameFamily):
    """Σ_y weight_y N(mean_y, I): means `[C, L]`, log_weights `[C]`; batch shape `[]`, event shape `[L]`."""

    def __init__(self, means: Tensor, log_weights: Tensor) -> None:
        super().__init__(Categorical(logits=log_weights, validate_args=False), unit_normal(means), validate_args=False)
        self._means = means

    def log_prob(self, z: Tensor) -> Tensor:
        """log Σ_y weight_y N(z; mean_y, I) in nats, `[..., L]` → `[...]`.

        ‖z − mean_y‖² is multiplied out, so that all classes of many z are one matrix product: this is the prior of
        every importance sample, where the general form costs a sixth of the decoder.
        """
        constant = self.mixture_distribution.logits - 0.5 * self._means.square().sum(-1)
        each_class = torch.logsumexp(z @ self._means.T + constant, dim=-1)
        return each_class - 0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)
