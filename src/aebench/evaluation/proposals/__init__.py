"""What importance samples are drawn from: `evaluation.proposal` names one of the three here.

`amortised` is the encoder's q(z|x); `refined` and `laplace` are fitted to every test image. Each is fixed before its
samples are drawn, so that log p̂(x) is in expectation a lower bound on log p(x).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from aebench.evaluation.marginal import BatchedProposal, Budget, Marginal, split_budget
from aebench.evaluation.proposals.laplace import Laplace, fit
from aebench.evaluation.proposals.refined import refined
from aebench.models.generative import GenerativeModel, Posterior, rsample_and_log_prob
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import drawing_from, generator

# Of an image's classes those are fitted whose log p(y|x) is by a rough fit at most so many nats below the largest.
FITTED = 7.0
# A share of the fitted q(y|x) is p(y|x) to this power: no class is left without samples for a mistake in it.
DEFENSIVE, TEMPERED = 0.05, 0.3


class Proposals(NamedTuple):
    """For B images: for the model whose label is summed out, and, where the label is given, for that label's samples.

    What is fitted to (x, y) because y is the label would tell the first of them the label: hence the second, which is
    the first where there is no difference.
    """

    marginal: BatchedProposal
    given_label: BatchedProposal


def importance_budget(kind: str, samples: int, classes: int) -> Budget:
    """K = `samples` of an image; Laplace's proposal needs no pilot to know q(y|x)."""
    return split_budget(samples, 0 if kind == "laplace" else classes)


def propose(
    kind: str,
    marginal: Marginal,
    x: Tensor,
    *,
    seed: int,
    first: int = 0,
    label: Tensor | None = None,
    purpose: str = "refinement",
) -> Proposals:
    """The proposals of images `[B, D]`, of which the first is number `first` of its data set.

    Args:
        kind: `amortised`, `refined` or `laplace`.
        marginal: the model.
        x: `[B, D]`.
        seed: of what is drawn to fit them.
        first: each image has its own generators, by its number.
        label: `[B]`, where there are to be samples given the label.
        purpose: of these generators.

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
    noise = [generator(seed, purpose, i, y) for i in images for y in range(max(marginal.classes, 1))]
    prior = None if marginal.model.conditional_parts else marginal.prior()
    fitted = BatchedProposal.make(lambda x, y: refined(marginal.model, x, noise, y, prior), x, marginal.classes)
    return Proposals(fitted, fitted)


def _laplace(marginal: Marginal, x: Tensor, encoder: BatchedProposal, label: Tensor | None) -> Proposals:
    model, classes = marginal.model, marginal.classes
    prior = None if classes and "prior" in model.conditional_parts else marginal.prior()
    if not classes:
        proposal = BatchedProposal(fit(model, x, _start(model, x, None, encoder.q), prior=prior).q)
        return Proposals(proposal, proposal)

    y = torch.arange(classes, device=x.device).repeat(len(x))
    every, begin = x.repeat_interleave(classes, dim=0), torch.arange(len(x), device=x.device) * classes
    start = _start(model, every, y, encoder.q)

    def fitted(places: Tensor, into: Laplace) -> Laplace:
        if not len(places):
            return into
        return into.replaced(places, fit(model, every[places], start[places], y[places], prior))

    # The class that the encoder finds is fitted first, and its curvature serves for a rough fit of all: most classes
    # have next to no weight, and are not worth more.
    place = begin + marginal.log_q_y(encoder, x).argmax(-1)
    best = fit(model, x, start[place], y[place], prior)
    fits = fit(model, every, start, y, prior, best.covariance.repeat_interleave(classes, dim=0)).replaced(place, best)
    log_joint = model.log_class_shares + fits.log_evidence.view(len(x), classes)
    likely = (log_joint.amax(-1, keepdim=True) - log_joint <= FITTED).flatten()
    fits = fitted(likely.index_fill(0, place, False).nonzero().squeeze(1), fits)
    log_q_y = _log_shares(model.log_class_shares + fits.log_evidence.view(len(x), classes))
    proposal = BatchedProposal(fits.q, classes, log_q_y)
    if label is None:
        return Proposals(proposal, proposal)
    # In a call of its own: not even by rounding does the other depend on the label.
    of_label = begin + label
    rough = ~likely.index_fill(0, place, True)[of_label]
    return Proposals(proposal, BatchedProposal(fitted(of_label[rough], fits).q, classes, log_q_y))


def _log_shares(log_joint: Tensor) -> Tensor:
    """log q(y|x), `[B, C]`, from the approximations of log p(y) p(x|y)."""
    log_q_y, cautious = log_joint.log_softmax(-1), (TEMPERED * log_joint).log_softmax(-1)
    return torch.logaddexp(math.log1p(-DEFENSIVE) + log_q_y, math.log(DEFENSIVE) + cautious)


def _start(model: GenerativeModel, x: Tensor, y: Tensor | None, q: Posterior) -> Tensor:
    """Where the way to the mode begins: the code, `[B, L]`."""
    if isinstance(model, LatentVariableModel):
        return model.encode(x, y)
    mean: Tensor | None = getattr(q, "mean", None)
    if mean is None:
        with drawing_from(generator("mean of the posterior")):
            mean = rsample_and_log_prob(q, (64,))[0].mean(0)
    return mean
