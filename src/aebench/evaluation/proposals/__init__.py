"""What importance samples are drawn from: `evaluation.proposal` names one of the three here.

`amortised` is the encoder's q(z|x); `refined` and `laplace` are fitted to every test image. Each is fixed before its
samples are drawn, so that log p̂(x) is in expectation a lower bound on log p(x).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from aebench.evaluation.marginal import BatchedProposal, Marginal
from aebench.evaluation.proposals.laplace import laplace
from aebench.evaluation.proposals.refined import refined
from aebench.models.generative import GenerativeModel, Posterior, rows
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import generator

# Of an image's classes those are fitted whose log q(y|x) under the encoder is at most so many nats below the largest:
# the bounds on log p(x|y) that it rests on are loose by some nats, and by different ones.
FITTED = 10.0
# A share of the fitted q(y|x) is the encoder's to this power: no class is left without samples for its mistake.
DEFENSIVE, TEMPERED = 0.05, 0.2


class Proposals(NamedTuple):
    """For B images: for the model whose label is summed out, and, where the label is given, for that label's samples.

    What is fitted to (x, y) because y is the label would tell the first of them the label: hence the second, which is
    the first where there is no difference.
    """

    marginal: BatchedProposal
    given_label: BatchedProposal


def propose(
    kind: str, marginal: Marginal, x: Tensor, *, seed: int, first: int = 0, label: Tensor | None = None
) -> Proposals:
    """The proposals of images `[B, D]`, of which the first is number `first` of its data set.

    Args:
        kind: `amortised`, `refined` or `laplace`.
        marginal: the model.
        x: `[B, D]`.
        seed: of what is drawn to fit them.
        first: each image has its own generators, by its number.
        label: `[B]`, where there are to be samples given the label.

    Raises:
        ConfigError: `refined`, and the encoder's q is no Gaussian with a diagonal covariance.
        Diverged: `laplace`, and the decoder's derivative is not finite.
    """
    encoder = marginal.amortised(x)
    if kind == "amortised":
        return Proposals(encoder, encoder)
    if kind == "laplace":
        return _laplace(marginal, x, encoder, label)
    images = range(first, first + len(x))
    noise = [generator(seed, "refinement", i, y) for i in images for y in range(max(marginal.classes, 1))]
    fitted = BatchedProposal.make(lambda x, y: refined(marginal.model, x, noise, y), x, marginal.classes)
    return Proposals(fitted, fitted)


def _laplace(marginal: Marginal, x: Tensor, encoder: BatchedProposal, label: Tensor | None) -> Proposals:
    model, classes = marginal.model, marginal.classes
    prior = None if classes and "prior" in model.conditional_parts else marginal.prior()
    if not classes:
        fitted = BatchedProposal(laplace(model, x, _start(model, x, None, encoder.q), prior=prior).q)
        return Proposals(fitted, fitted)

    # Most classes of an image have next to no weight: they are not worth a fit.
    log_q_y, gaussian = marginal.log_q_y(encoder, x), _mean_and_scale_tril(encoder.q)
    below = log_q_y.amax(-1, keepdim=True) - log_q_y
    chosen = below <= (FITTED if gaussian else torch.inf)
    wanted = chosen if label is None else chosen.scatter(1, label[:, None], True)
    image, y = wanted.nonzero(as_tuple=True)
    start = _start(model, x[image], y, rows(encoder.q, image * classes + y))
    found = laplace(model, x[image], start, y, prior)
    log_evidence = torch.full_like(log_q_y, -torch.inf, dtype=torch.float64)
    log_evidence[image, y] = found.log_evidence
    log_fitted = _log_shares(marginal.model.log_class_shares + log_evidence, log_q_y.double(), chosen)

    def of(fitted: Tensor) -> BatchedProposal:
        """Laplace's Gaussians for the classes `fitted` `[B, C]`, the encoder's q for the others."""
        own = gaussian or (found.q.loc, found.q.scale_tril)
        loc, scale_tril = (values.clone() for values in own)
        used = fitted[image, y]
        places = (image * classes + y)[used]
        loc[places], scale_tril[places] = found.q.loc[used], found.q.scale_tril[used]
        q = MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)
        return BatchedProposal(q, classes, log_fitted)

    return Proposals(of(chosen), of(wanted))


def _log_shares(log_joint: Tensor, log_q_y: Tensor, chosen: Tensor) -> Tensor:
    """The fitted log q(y|x), `[B, C]`, from log p(y) p(x|y) of the `chosen` classes and the encoder's log q(y|x).

    The chosen classes have together what they had, and share it as log p(y) p(x|y) says.
    """
    of_chosen = log_joint.where(chosen, -torch.inf).log_softmax(-1)
    mass = log_q_y.where(chosen, -torch.inf).logsumexp(-1, keepdim=True)
    fitted = torch.where(chosen, mass + of_chosen, log_q_y)
    return torch.logaddexp(math.log1p(-DEFENSIVE) + fitted, math.log(DEFENSIVE) + (TEMPERED * log_q_y).log_softmax(-1))


def _start(model: GenerativeModel, x: Tensor, y: Tensor | None, q: Posterior) -> Tensor:
    """Where the way to the mode begins: the code, `[B, L]`."""
    if isinstance(model, LatentVariableModel):
        return model.encode(x, y)
    mean: Tensor = q.mean  # type: ignore[union-attr]
    return mean


def _mean_and_scale_tril(q: Posterior) -> tuple[Tensor, Tensor] | None:
    """Mean `[B, L]` and Cholesky factor of the covariance `[B, L, L]`, where q is Gaussian."""
    if isinstance(q, MultivariateNormal):
        return q.loc, q.scale_tril
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return q.mean, torch.diag_embed(q.stddev)
    return None
