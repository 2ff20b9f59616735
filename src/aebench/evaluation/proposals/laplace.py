"""laplace: a Gaussian at the mode of each image's posterior, corrected for how the posterior falls on either side.

The encoder is trained to be good for all images at once; the Gaussian is fitted to one. A few damped Gauss–Newton
steps lead from the encoder's mean to the mode of p(z|x), and the curvature there gives a full covariance (MacKay 2003,
§27). Along each column of its Cholesky factor a look at log p(x, z) on both sides of the mode gives a split normal
(Geweke 1989, §3), whose moments the proposal takes. Nothing of this is drawn at random, and the samples are: the bound
from them stays one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal
from torch.func import grad, jvp, vmap

from aebench.errors import Diverged
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.latents import EqualMixture

# Gauss–Newton steps with the curvature at the start, in whose place a curvature of each point's own would cost three
# times as much and lead no further; fewer for a rough fit. After a step that does not gain, the next is shorter.
STEPS, ROUGH_STEPS = 8, 3
SHORTER, LONGER = 0.3, 2.0
# How far from the mode, in standard deviations, the posterior's width is looked at, and how much it may differ.
DISTANCE = 2.0
NARROWEST, WIDEST = 0.5, 3.0
# The posterior is not quite Gaussian; a proposal that is too narrow makes for heavy-tailed weights.
WIDENED = 1.25
# Numbers in the Jacobians that are held together, and rows that a matrix product takes together.
HELD, ROWS = 2**20, 12


class Laplace(NamedTuple):
    """For B images: the proposal, and what else its fit tells.

    `q`: of batch shape `[B]`. `covariance`: the inverse of the curvature at its mean, `[B, L, L]`. `log_evidence`: the
    approximation of log p(x), or log p(x|y), `[B]`.
    """

    q: MultivariateNormal
    covariance: Tensor
    log_evidence: Tensor

    def replaced(self, places: Tensor, by: "Laplace") -> "Laplace":
        """This one, with the values of `by` at `places`, `[P]`, in the places of its own."""

        def joined(ours: Tensor, theirs: Tensor) -> Tensor:
            return ours.index_copy(0, places, theirs)

        scale_tril = joined(self.q.scale_tril, by.q.scale_tril)
        q = MultivariateNormal(joined(self.q.loc, by.q.loc), scale_tril=scale_tril, validate_args=False)
        return Laplace(q, joined(self.covariance, by.covariance), joined(self.log_evidence, by.log_evidence))


@torch.no_grad()
def fit(
    model: GenerativeModel,
    x: Tensor,
    start: Tensor,
    y: Tensor | None = None,
    prior: Prior | None = None,
    covariance: Tensor | None = None,
) -> Laplace:
    """The proposal for each of the images `[B, D]`.

    Args:
        model: its weights stay as they are.
        x: `[B, D]`.
        start: where the steps begin, `[B, L]`.
        y: `[B]`, where the label enters p(x|z) or is given to p(z).
        prior: p(z), where it is there already and takes no label.
        covariance: taken in place of the inverse of the curvature, `[B, L, L]`: a rough fit, without derivatives of the
            decoder but the gradient, at less of its cost.

    Returns:
        An image's values depend on the images beside it by rounding alone.

    Raises:
        Diverged: the decoder's derivative is not finite.
    """
    climbed = []
    # Of so many rows, a matrix product gives each the same whatever its place.
    size = max(1, HELD // (x.shape[-1] * start.shape[-1] * ROWS)) * ROWS
    every = torch.arange(-(-len(x) // ROWS) * ROWS, device=x.device).clamp(max=len(x) - 1)
    for rows in every.split(size):
        known = None if covariance is None else covariance[rows].double()
        part = _Fit(model, x[rows], None if y is None else y[rows], prior, known)
        climbed.append(part.climb(start[rows]))
    mode, scale_tril, *others = (torch.cat(values)[: len(x)] for values in zip(*climbed, strict=True))
    return Laplace(MultivariateNormal(mode, scale_tril=scale_tril, validate_args=False), *others)


@final
class _Fit:
    """To B images; their curvature is `known` or found."""

    def __init__(
        self, model: GenerativeModel, x: Tensor, y: Tensor | None, prior: Prior | None, known: Tensor | None
    ) -> None:
        self.model, self.x, self.y, self.known = model, x, y, known
        self.prior = model.prior(y) if prior is None else prior

    def climb(self, start: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The proposal's mean `[B, L]` and factor `[B, L, L]`, the inverse of the curvature, log evidence `[B]`."""
        rough = self.known is not None
        best = self._climbed(self._start(start), ROUGH_STEPS if rough else STEPS)
        if not rough:
            best = self._point(best.z)
        factor = best.scale_tril()
        mean, scale_tril = (best.z, WIDENED * factor.to(start)) if rough else self._matched(best, factor.to(start))
        return mean, scale_tril, best.covariance, best.log_evidence(factor)

    def _climbed(self, best: "_Point", steps: int) -> "_Point":
        """The best point on the way, along which the curvature stays what it is."""
        length = torch.ones_like(best.log_joint)
        for _ in range(steps):
            tried = self._point((best.z + length[:, None] * best.step).to(best.z), best.covariance)
            gained = tried.log_joint > best.log_joint
            length = torch.where(gained, (LONGER * length).clamp(max=1), SHORTER * length)
            best = _Point(*(torch.where(_like(gained, new), new, old) for new, old in zip(tried, best, strict=True)))
        return best

    def _matched(self, mode: "_Point", columns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and factor of a Gaussian with the moments of one that is split at the mode along each of `columns`.

        Of widths a and b on the two sides, mean and variance are √(2/π) (a − b) and (1 − 2/π) (a − b)² + ab.
        """
        offsets = DISTANCE * columns.permute(2, 0, 1)  # [L, B, L]: one column after the other
        sides = torch.stack([self._log_joint(mode.z + offsets), self._log_joint(mode.z - offsets)])
        # A Gaussian of width a falls by half the square of the distance in units of a.
        fall = (mode.log_joint - sides).clamp(min=torch.finfo(sides.dtype).tiny).nan_to_num(nan=torch.inf)
        a, b = (DISTANCE / (2 * fall).sqrt()).clamp(NARROWEST, WIDEST).mT.to(columns)  # [B, L] both
        shift, variance = math.sqrt(2 / math.pi) * (a - b), (1 - 2 / math.pi) * (a - b).square() + a * b
        mean = mode.z + (columns @ shift.unsqueeze(-1)).squeeze(-1)
        return mean, WIDENED * columns * variance.sqrt().unsqueeze(-2)

    def _log_joint(self, z: Tensor) -> Tensor:
        log_px: Tensor = self.model.likelihood(z, self.y).log_prob(self.x)
        return log_px + self.prior.log_prob(z)

    def _start(self, z: Tensor) -> "_Point":
        """The point where the steps begin.

        Raises:
            Diverged: it is not finite.
        """
        point = self._point(z, self.known)
        if not bool(point.log_joint.isfinite().all()):
            raise Diverged("proposal: the decoder's derivative is not finite: the run has diverged")
        return point

    def _point(self, z: Tensor, covariance: Tensor | None = None) -> "_Point":
        """What is known at z; the inverse of the curvature there unless it is given.

        A point that is not finite in anything has a log p(x, z) of −∞: no step leads there.
        """
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = self._log_joint(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        value, gradient = value.detach().double(), gradient.double()
        finite = value.isfinite() & gradient.isfinite().all(-1)
        if covariance is None:
            curvature = self._curvature(z)
            finite &= curvature.isfinite().flatten(1).all(-1)
            covariance = torch.linalg.inv(torch.where(_like(finite, curvature), curvature, _units(curvature)))
        value = torch.where(finite, value, -torch.inf)
        return _Point(z, value, torch.where(_like(finite, gradient), gradient, 0.0), covariance)

    def _curvature(self, z: Tensor) -> Tensor:
        """JᵀFJ and the prior's curvature, `[B, L, L]`, F the Fisher information in the decoder's output.

        Where that is not positive definite, the prior counts as N(0, I) does.
        """
        jacobian = _derivative(lambda z: self.model.likelihood(z, self.y).output, z)
        fisher = self.model.likelihood(z, self.y).curvature
        root = (jacobian * fisher.sqrt().unsqueeze(-1)).double()  # its product is never negative, but for rounding
        information = root.mT @ root
        curvature = information + _curvature(self.prior, z).double()
        curvature = 0.5 * (curvature + curvature.mT)
        _, failed = torch.linalg.cholesky_ex(torch.where(curvature.isfinite(), curvature, 0.0))
        return torch.where(_like(failed > 0, curvature), information + _units(information), curvature)


class _Point(NamedTuple):
    """A point `[B, L]` with log p(x, z) `[B]`, its gradient `[B, L]` and the inverse of its curvature `[B, L, L]`."""

    z: Tensor
    log_joint: Tensor
    gradient: Tensor
    covariance: Tensor

    @property
    def step(self) -> Tensor:
        """Gauss–Newton's, to where the mode would be if log p(x, z) were quadratic, `[B, L]`."""
        return (self.covariance @ self.gradient.unsqueeze(-1)).squeeze(-1)

    def scale_tril(self) -> Tensor:
        """The Cholesky factor of the covariance, `[B, L, L]`."""
        factor: Tensor = torch.linalg.cholesky(self.covariance)
        return factor

    def log_evidence(self, factor: Tensor) -> Tensor:
        """log of the integral of p(x, z) if this is the mode (MacKay 2003, eq. 27.3), `[B]`."""
        log_volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return self.log_joint + log_volume + 0.5 * self.z.shape[-1] * math.log(2 * math.pi)


def _derivative(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Of a function `[B, L]` → `[B, ·]` that takes each row by itself: `[B, ·, L]`."""
    units = torch.eye(z.shape[-1]).to(z)
    jacobian: Tensor = vmap(lambda unit: jvp(function, (z,), (unit.expand_as(z),))[1], out_dims=-1)(units)
    return jacobian


def _curvature(prior: Prior, z: Tensor) -> Tensor:
    """−∇² log p(z), `[B, L, L]`; of a mixture of Gaussians their precisions, weighted by their shares in z.

    What is left out for a mixture, the variance of its components' gradients, may outweigh all else between them.
    """
    if isinstance(prior, MixtureSameFamily) and (precisions := _precisions(prior.component_distribution)) is not None:
        log_shares = prior.mixture_distribution.logits + prior.component_distribution.log_prob(z.unsqueeze(-2))
        return torch.einsum("bk,kij->bij", log_shares.double().softmax(-1), precisions.double())
    precisions = _precisions(prior)
    if precisions is not None:
        return precisions.expand(*z.shape, z.shape[-1])
    return -_derivative(grad(lambda z: prior.log_prob(z).sum()), z)


def _precisions(gaussian: object) -> Tensor | None:
    """The inverse covariances `[..., L, L]` of Gaussians of batch shape `[...]`; None of any other distribution.

    That of equal Gaussians is one for all of them.
    """
    if isinstance(gaussian, EqualMixture):
        return torch.diag_embed(gaussian.scale**-2)
    if isinstance(gaussian, Independent) and isinstance(gaussian.base_dist, Normal):
        return torch.diag_embed(gaussian.base_dist.scale**-2)
    if isinstance(gaussian, MultivariateNormal):
        precisions: Tensor = torch.linalg.inv(gaussian.covariance_matrix.double())
        return precisions
    return None


def _units(matrices: Tensor) -> Tensor:
    return torch.eye(matrices.shape[-1]).to(matrices)


def _like(chosen: Tensor, values: Tensor) -> Tensor:
    """`[B]` → `[B, 1, …]`, with as many dimensions as `values`."""
    return chosen.view(-1, *[1] * (values.dim() - 1))
