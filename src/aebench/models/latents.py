"""p(z), p(z|y) and q(z|x): torch distributions over latents of L dimensions, event shape `[L]`."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from aebench.models.generative import Posterior, log_prob_of_noise

# Components of an `EqualMixture` that are looked at together: memory does not grow with their number.
TOGETHER = 1000


def diagonal_normal(mean: Tensor, log_variance: Tensor) -> Independent[Normal]:
    """N(mean, diag exp(log_variance)), both `[..., L]`."""
    return Independent(Normal(mean, torch.exp(0.5 * log_variance), validate_args=False), 1, validate_args=False)


def unit_normal(mean: Tensor) -> Independent[Normal]:
    """N(mean, I), mean `[..., L]`."""
    return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)


def log_normal(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log N(z; mean, scale²) of each number, in nats, shapes that broadcast."""
    return -0.5 * ((z - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)


def log_normals(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """log N(z; mean, diag scale²) in nats of each z `[..., L]` under each of C Gaussians: `[..., C]`.

    Means are `[C, L]`, and so are scales, or `[1, L]` where all have the same.

    (z − mean)²/scale² is multiplied out, so that all pairs are matrix products. In double precision, which the result
    is of, that costs less than 10⁻⁴ nats down to scales of 5·10⁻⁵.
    """
    z, means, scales = z.double(), means.double(), scales.double()
    precisions = scales.square().reciprocal()
    squares = z.square() @ precisions.mT - 2 * z @ (means * precisions).mT + (means.square() * precisions).sum(-1)
    return -0.5 * squares - scales.log().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


def reparameterised(q: Independent[Normal], noise: Tensor) -> Tensor:
    """z = μ + σ·ε, which is a sample of q for ε ~ N(0, I), `[..., B, L]` both (Kingma & Welling 2014, §2.4)."""
    return q.base_dist.loc + noise * q.base_dist.scale


@runtime_checkable
class FromNoise(Protocol):
    """q(z|x) that makes its samples of standard normal noise, and scores them."""

    def of(self, noise: Tensor, /) -> tuple[Tensor, Tensor]:
        """z and log q(z|x) in nats, `[..., B, L]` → `[..., B, L]` and `[..., B]`."""


def drawn(q: Posterior, noise: Tensor) -> tuple[Tensor, Tensor | None]:
    """z ~ q, made of standard normal noise, `[..., B, L]` both, and log q(z) `[..., B]` where it comes with z.

    Raises:
        TypeError: it is not known how q's samples are made.
    """
    if isinstance(q, FromNoise):
        return q.of(noise)
    if isinstance(q, MultivariateNormal):
        z = q.loc + (q.scale_tril * noise.unsqueeze(-2)).sum(-1)
        log_volume = q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return z, log_prob_of_noise(noise, log_volume)
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return reparameterised(q, noise), None
    raise TypeError(f"it is not known how noise becomes a sample of a {type(q).__name__}")


def stopped(q: Posterior) -> Distribution:
    """q with parameters that have no gradient.

    Raises:
        TypeError: it has no density at a given point.
    """
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        fixed = Normal(q.base_dist.loc.detach(), q.base_dist.scale.detach(), validate_args=False)
        return Independent(fixed, 1, validate_args=False)
    if isinstance(q, MultivariateNormal):
        return MultivariateNormal(q.loc.detach(), scale_tril=q.scale_tril.detach(), validate_args=False)
    raise TypeError(f"a {type(q).__name__} has no density at a given point")


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


@final
class NormalMixture(MixtureSameFamily):
    """Σ_c weight_c N(mean_c, diag scale_c²): means and scales `[C, L]`, log_weights `[C]`; event shape `[L]`."""

    def __init__(self, means: Tensor, scales: Tensor, log_weights: Tensor) -> None:
        components = Independent(Normal(means, scales, validate_args=False), 1, validate_args=False)
        super().__init__(Categorical(logits=log_weights, validate_args=False), components, validate_args=False)
        self._means, self._scales, self._log_shares = means, scales, log_weights.double().log_softmax(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log Σ_c weight_c N(z; mean_c, diag scale_c²) in nats, `[..., L]` → `[...]`."""
        return torch.logsumexp(log_normals(z, self._means, self._scales) + self._log_shares, dim=-1).to(z)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """`[*sample_shape, L]`, drawn from torch's global generator: the component, then one of its samples."""
        ends = self.mixture_distribution.logits.double().exp().cumsum(-1)
        uniform = torch.rand(*sample_shape, 1, dtype=torch.float64).to(ends.device)
        chosen = (uniform * ends[-1] >= ends[:-1]).sum(-1)
        return torch.normal(self._means[chosen], self._scales[chosen])


@final
class EqualMixture:
    """(1/C) Σ_c N(mean_c, σ² I): C equal Gaussians, which may be tens of thousands; event shape `[L]`.

    With `left_out` `[B, C]` the density at the b-th z of a batch is the mean over the components that its row does not
    leave out. Samples are those of all C.
    """

    def __init__(self, means: Tensor, log_variance: Tensor, left_out: Tensor | None = None) -> None:
        """`means` `[C, L]`; `log_variance` of no dimension: log σ²."""
        self.means, self.scale = means, torch.exp(0.5 * log_variance).expand(means.shape[-1])
        log_shares = means.new_zeros(len(means), dtype=torch.float64)
        if left_out is not None:
            log_shares = torch.where(left_out, -torch.inf, log_shares)
        self._log_shares = log_shares.log_softmax(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """In nats, `[..., L]` → `[...]`; `[..., B, L]` → `[..., B]` with `left_out`."""
        # All of about one size: a block of a single component, if that is left out, would have no slope.
        size = math.ceil(len(self.means) / math.ceil(len(self.means) / TOGETHER))
        blocks = zip(self.means.split(size), self._log_shares.split(size, dim=-1), strict=True)
        of_blocks = [
            torch.logsumexp(log_normals(z, means, self.scale[None]) + log_shares, dim=-1)
            for means, log_shares in blocks
        ]
        return reduce(torch.logaddexp, of_blocks).to(z)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """`[*sample_shape, L]`, drawn from torch's global generator: the component, then one of its samples."""
        uniform = torch.rand(tuple(sample_shape), dtype=torch.float64).to(self.means.device)
        chosen = (uniform * len(self.means)).long()
        return torch.normal(self.means[chosen], self.scale.expand_as(self.means)[chosen])
