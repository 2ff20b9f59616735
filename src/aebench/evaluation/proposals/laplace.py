"""laplace: a Gaussian at the mode of each image's posterior, as wide as the posterior is along each of its axes.

The encoder is trained to be good for all images at once; the Gaussian is fitted to one. A few damped Gauss–Newton
steps lead from the encoder's mean to the mode of p(z|x), the curvature there gives a full covariance (MacKay 2003,
§27), and a look at log p(x, z) on both sides of the mode, along each column of the covariance's Cholesky factor, widens
or narrows it (Geweke 1989, §3, whose split normals are here as wide on both sides as on the wider one). Nothing of this
is drawn at random, and the samples are: the bound from them stays one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.func import grad, jvp, vmap

from aebench.errors import Diverged
from aebench.models.generative import GenerativeModel, Prior

# Gauss–Newton steps. One that does not gain is taken again from where it began, shorter.
STEPS = 3
SHORTER, LONGER = 0.3, 2.0
# How far from the mode, in standard deviations, the posterior's width is looked at, and how much it may differ.
DISTANCE = 2.0
NARROWEST, WIDEST = 0.5, 3.0
# The posterior is not quite Gaussian; a proposal that is too narrow makes for heavy-tailed weights.
WIDENED = 1.2
# Numbers in the Jacobians that are held together.
HELD = 2**20


class Laplace(NamedTuple):
    """`q`: the proposal, of batch shape `[B]`. `log_evidence`: the approximation of log p(x), or log p(x|y), `[B]`."""

    q: MultivariateNormal
    log_evidence: Tensor


@torch.no_grad()
def laplace(
    model: GenerativeModel, x: Tensor, start: Tensor, y: Tensor | None = None, prior: Prior | None = None
) -> Laplace:
    """The proposal for each of the images `[B, D]`.

    Args:
        model: its weights stay as they are.
        x: `[B, D]`.
        start: where the steps begin, `[B, L]`.
        y: `[B]`, where the label enters p(x|z) or is given to p(z).
        prior: p(z), where it is there already and takes no label.

    Returns:
        An image's values depend on the images beside it by rounding alone.

    Raises:
        Diverged: the decoder's derivative is not finite.
    """
    size = max(1, HELD // (x.shape[-1] * start.shape[-1]))
    labels = [None] * len(x.split(size)) if y is None else y.split(size)
    parts = [_fitted(model, *part, prior) for part in zip(x.split(size), start.split(size), labels, strict=True)]
    mode, scale_tril, log_evidence = (torch.cat(values) for values in zip(*parts, strict=True))
    return Laplace(MultivariateNormal(mode, scale_tril=scale_tril, validate_args=False), log_evidence)


def _fitted(
    model: GenerativeModel, x: Tensor, start: Tensor, y: Tensor | None, prior: Prior | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mode `[B, L]`, Cholesky factor of the covariance `[B, L, L]`, approximation of the evidence `[B]`."""
    of_z = model.prior(y) if prior is None else prior

    def log_joint(z: Tensor) -> Tensor:
        return model.likelihood(z, y).log_prob(x) + of_z.log_prob(z)

    best = _Point.at(model, start, y, of_z, log_joint)
    length = torch.ones_like(best.log_joint)
    for _ in range(STEPS):
        step = (best.covariance @ best.gradient.unsqueeze(-1)).squeeze(-1)
        tried = _Point.at(model, (best.z + length[:, None] * step).to(start), y, of_z, log_joint)
        gained = tried.log_joint > best.log_joint
        length = torch.where(gained, (LONGER * length).clamp(max=1), SHORTER * length)
        best = _Point(*(torch.where(_like(gained, new), new, old) for new, old in zip(tried, best, strict=True)))
    if not bool(best.covariance.isfinite().all() & best.log_joint.isfinite().all()):
        raise Diverged("proposal: the decoder's derivative is not finite: the run has diverged")
    columns = torch.linalg.cholesky(best.covariance)
    log_evidence = best.log_joint + columns.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_evidence += 0.5 * start.shape[-1] * math.log(2 * math.pi)
    columns = columns.to(start)
    offsets = DISTANCE * columns.permute(2, 0, 1)  # [L, B, L]: one column after the other
    sides = torch.stack([log_joint(best.z + offsets), log_joint(best.z - offsets)])
    # A Gaussian of this width falls by half the square of the distance.
    fall = (best.log_joint - sides).amin(0).clamp(min=torch.finfo(sides.dtype).tiny)
    widths = (DISTANCE / (2 * fall).sqrt()).clamp(NARROWEST, WIDEST).to(columns)  # [L, B]
    return best.z, WIDENED * columns * widths.T.unsqueeze(-2), log_evidence


class _Point(NamedTuple):
    """A point `[B, L]` with log p(x, z) `[B]`, its gradient `[B, L]` and the inverse of its curvature `[B, L, L]`."""

    z: Tensor
    log_joint: Tensor
    gradient: Tensor
    covariance: Tensor

    @classmethod
    def at(
        cls, model: GenerativeModel, z: Tensor, y: Tensor | None, prior: Prior, log_joint: Callable[[Tensor], Tensor]
    ) -> "_Point":
        """What is known at z; the curvature is JᵀFJ − ∇² log p(z), F the Fisher information in the decoder's output.

        Where that is not positive definite, the prior counts as N(0, I) does.
        """
        jacobian = _derivative(lambda z: model.likelihood(z, y).output, z)
        information = (jacobian * model.likelihood(z, y).curvature.unsqueeze(-1)).mT @ jacobian
        curvature = (information + _curvature(prior, z)).double()
        curvature = 0.5 * (curvature + curvature.mT)
        _, failed = torch.linalg.cholesky_ex(curvature)
        units = torch.eye(z.shape[-1]).to(information)
        curvature = torch.where(_like(failed > 0, curvature), (information + units).double(), curvature)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = log_joint(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return cls(z, value.detach().double(), gradient.double(), torch.linalg.inv(curvature))


def _derivative(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Of a function `[B, L]` → `[B, ·]` that takes each row by itself: `[B, ·, L]`."""
    units = torch.eye(z.shape[-1]).to(z)
    jacobian: Tensor = vmap(lambda unit: jvp(function, (z,), (unit.expand_as(z),))[1], out_dims=-1)(units)
    return jacobian


def _curvature(prior: Prior, z: Tensor) -> Tensor:
    """−∇² log p(z), `[B, L, L]`."""
    if isinstance(prior, Independent) and isinstance(prior.base_dist, Normal):  # which needs no derivative
        return torch.diag_embed(prior.base_dist.scale.expand_as(z) ** -2)
    return -_derivative(grad(lambda z: prior.log_prob(z).sum()), z)


def _like(chosen: Tensor, values: Tensor) -> Tensor:
    """`[B]` → `[B, 1, …]`, with as many dimensions as `values`."""
    return chosen.view(-1, *[1] * (values.dim() - 1))
