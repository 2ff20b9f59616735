"""p(z) p(x|z) with a proposal q(z|x): the little that bounds and estimators must know of a model.

A posterior need have no closed-form divergence from the prior, no mean, and no density at a point that it did not draw
itself. Latents of several levels are one vector z. A label is one more latent; `aebench.evaluation.marginal` sums it
out.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, TransformedDistribution, kl_divergence

from aebench.models.likelihoods import Likelihood


class Prior(Protocol):
    """p(z) over `[L]`, as a torch distribution has it."""

    def log_prob(self, z: Tensor, /) -> Tensor:
        """log p(z) in nats, `[..., B, L]` → `[..., B]`."""

    def sample(self, shape: torch.Size, /) -> Tensor:
        """z ~ p(z), `[*shape, L]`, or `[*shape, B, L]` from B labels."""


@runtime_checkable
class ScoredSampler(Protocol):
    """q(z|x) that tells the density of what it draws, and perhaps of nothing else: a flow, for one.

    Where the label enters it, it must be indexable too: `q[index]` are the rows at `index` of its batch, for a slice or
    for whole numbers of any shape `[...]`, which is then the batch's shape. It may have a `mean`, `[B, L]`.
    """

    def rsample_and_log_prob(self, shape: torch.Size, /) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x), `[*shape, B, L]`, and log q(z|x), `[*shape, B]`, drawn from torch's global generator."""


Posterior = Distribution | ScoredSampler
"""A torch distribution of batch shape `[B]` and event shape `[L]` with `rsample`, or what has a method for both."""


class GenerativeModel(ABC):
    """p(y) p(z|y) p(x|z, y) with a proposal q(z|x, y).

    `conditional_parts` names what conditions on the label; where it is empty there is no y. Given labels `y` `[B]`,
    each method conditions on them where the model does; labels and the batch dimensions of x and z may have any shapes
    that broadcast against each other. Without labels `prior` is Σ_y p(y) p(z|y), and `posterior` and `likelihood` are
    defined unless they condition on the label.
    """

    conditional_parts: frozenset[str]
    """Which of `prior`, `posterior` and `likelihood` condition on the label."""
    log_class_shares: Tensor
    """log p(y), `[C]`; looked at only where a label enters."""

    @abstractmethod
    def prior(self, y: Tensor | None = None) -> Prior:
        """p(z), or p(z|y). It may be dear to make: an evaluation makes p(z) once."""

    @abstractmethod
    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        """q(z|x), or q(z|x, y), of batch shape `[B]`."""

    @abstractmethod
    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z), or p(x|z, y), for z `[..., B, L]`: parameters `[..., B, D]`."""


def rsample_and_log_prob(q: Posterior, shape: Sequence[int] = (), scored: int | None = None) -> tuple[Tensor, Tensor]:
    """z ~ q, `[*shape, B, L]`, and log q(z) in nats, `[*shape, B]`, drawn from torch's global generator.

    Only the first `scored` of them have a log q, where that is a number.
    """
    size = torch.Size(shape)
    if isinstance(q, ScoredSampler):
        z, log_q = q.rsample_and_log_prob(size)
        return z, log_q if scored is None else log_q[:scored]
    if isinstance(q, MultivariateNormal):  # log q is known from the noise, without an equation to solve for each z
        noise = torch.randn(q._extended_shape(size), dtype=q.loc.dtype, device=q.loc.device)
        if noise.dim() == 3 and q.loc.dim() == 2:  # no matrix is copied for each sample
            z = q.loc + torch.einsum("bij,kbj->kbi", q.scale_tril, noise)
        else:
            z = q.loc + (q.scale_tril * noise.unsqueeze(-2)).sum(-1)
        log_scale = q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_q = log_prob_of_noise(noise, log_scale)
        return z, log_q if scored is None else log_q[:scored]
    z = q.rsample(size)
    return z, q.log_prob(z if scored is None else z[:scored])


def log_prob_of_noise(noise: Tensor, log_volume: Tensor) -> Tensor:
    """log q(z) in nats, `[..., B]`, of what an invertible map makes of standard normal noise `[..., B, L]`.

    That is log N(noise; 0, I) − `log_volume`, the latter log |det ∂z/∂noise|, `[..., B]`.
    """
    return -0.5 * (noise.square().sum(-1) + noise.shape[-1] * math.log(2 * math.pi)) - log_volume


def rows(q: Posterior, index: Tensor | slice) -> Posterior:
    """The distributions at `index` of a batch `[B]`; whole numbers `[...]` give the batch shape `[...]`.

    Raises:
        TypeError: q is of a kind of which that is not known.
    """
    if hasattr(q, "__getitem__"):
        selected: Posterior = q[index]
        return selected
    if isinstance(q, Independent):
        base: Distribution = rows(q.base_dist, index)  # type: ignore[assignment]
        return Independent(base, q.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(q, MultivariateNormal):  # which has three parameters for its covariance
        return MultivariateNormal(q.loc[index], scale_tril=q.scale_tril[index], validate_args=False)
    if not isinstance(q, Distribution) or isinstance(q, TransformedDistribution):
        raise TypeError(f"a posterior that takes a label must be indexable: {type(q).__name__} has no __getitem__")
    parameters = {name: getattr(q, name)[index] for name in q.arg_constraints}
    return type(q)(**parameters, validate_args=False)


def divergence(
    q: Posterior,
    prior: Prior,
    log_ratio: Callable[[], Tensor],
    closed_form: Callable[[Posterior, Prior], Tensor] = kl_divergence,  # type: ignore[assignment]
) -> Tensor:
    """KL(q‖p) in nats, `[B]`: in closed form where there is one, else from samples.

    Args:
        q: of batch shape `[B]`.
        prior: p.
        log_ratio: log p(z) − log q(z) of samples z of q, `[K, B]`; called only where it is needed.
        closed_form: gives the divergence from q and p, or raises a NotImplementedError as torch's does.
    """
    try:
        return closed_form(q, prior)
    except NotImplementedError:
        return -log_ratio().mean(0)
