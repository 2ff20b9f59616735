"""The aggregated posterior q(z) = (1/N) Σ_n q(z|x_n) (Makhzani et al. 2015), and what a rate consists of.

Hoffman & Johnson (2016) take the mean rate of N images apart:

    (1/N) Σ_n KL(q(z|x_n) ‖ p(z)) = I_q(n; z) + KL(q(z) ‖ p(z)),   I_q(n; z) = (1/N) Σ_n E_q(z|x_n) log q(z|x_n)/q(z).

The mixture is taken whole, with all N components for each sample, so the mean over samples has no bias; the cost grows
with N². A label is one more latent: where one enters the model, z is (z, y) with y ~ q(y|x), as it is in the rate.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from aebench.evaluation.marginal import BatchedProposal, Marginal, draw_labels
from aebench.models.generative import GenerativeModel, Posterior, rsample_and_log_prob
from aebench.models.labels import PILOT, class_log_posterior
from aebench.models.latents import log_normals
from aebench.randomness import drawing_from

# Samples of each image.
SAMPLES = 2
# Numbers, pairs of a sample and a component times latents, that are held together.
HELD = 2**24


class _Components(NamedTuple):
    """The q of B images: `log_q_y`, log q(y|x) `[B, C]`, where a label enters the model."""

    proposal: BatchedProposal
    images: int
    log_q_y: Tensor | None

    def log_prob(self, z: Tensor, label: int | None) -> Tensor:
        """log q(z, y|x) of each of z `[M, L]`, all of one label, for each image: float64 `[M, B]`."""
        if label is None or self.log_q_y is None:
            return _log_prob_of_each(self.proposal.given(), z)
        of_label = torch.full((self.images,), label, device=z.device)
        return _log_prob_of_each(self.proposal.given(of_label), z) + self.log_q_y[:, label].double()


@torch.no_grad()
def information(model: GenerativeModel, images: Iterable[Tensor], noise: torch.Generator, pilot: int = PILOT) -> Tensor:
    """log q(z|x_n) − log q(z) in nats, the mean over `SAMPLES` samples of each image: float64 `[N]`, on the CPU.

    Their mean is an unbiased estimate of I_q(n; z), which is at most log N.

    Args:
        model: its q has a density at any point.
        images: all N of them, `[B, D]` each.
        noise: draws the samples.
        pilot: samples a class behind q(y|x), where labels are drawn.
    """
    marginal, parts, drawn = Marginal(model), list[_Components](), list[tuple[Tensor, Tensor, Tensor]]()
    for x in images:
        parts.append(_components(marginal, x, pilot))
        drawn.append(_samples(marginal, parts[-1], noise))
    z, y, log_q = (torch.cat(each) for each in zip(*drawn, strict=True))
    log_mixture = torch.full_like(log_q, -torch.inf)
    for label in range(len(model.log_class_shares)) if model.conditional_parts else [None]:
        of_label = torch.arange(len(z), device=z.device) if label is None else (y == label).nonzero().squeeze(1)
        for part in parts:
            for places in of_label.split(max(1, HELD // (part.images * z.shape[-1]))):
                here = part.log_prob(z[places], label).logsumexp(-1)
                log_mixture = log_mixture.index_copy(0, places, torch.logaddexp(log_mixture[places], here))
    total = sum(part.images for part in parts)
    return (log_q - log_mixture + math.log(total)).view(total, SAMPLES).mean(1).cpu()


def _components(marginal: Marginal, x: Tensor, pilot: int) -> _Components:
    proposal, log_q_y = marginal.amortised(x), None
    if marginal.classes:
        log_q_y = marginal.log_q_y(proposal, x, pilot)
    elif marginal.model.conditional_parts:
        log_q_y = class_log_posterior(marginal.model, x)
    return _Components(proposal, len(x), log_q_y)


def _samples(marginal: Marginal, of: _Components, noise: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """z `[B·SAMPLES, L]`, y, 0 where there is none, and log q(z, y|x), `[B·SAMPLES]`, float64, image by image."""
    y, labels = None, None
    if of.log_q_y is not None:
        y = draw_labels(of.log_q_y.cpu(), SAMPLES, noise).to(of.log_q_y.device)
        labels = y if marginal.classes else None
    with drawing_from(noise):
        z, log_q = rsample_and_log_prob(of.proposal.given(labels), (SAMPLES,) if labels is None else ())
    log_q = log_q.double()
    if y is not None and of.log_q_y is not None:
        log_q = log_q + of.log_q_y.double().T.gather(0, y)
    y = torch.zeros(log_q.shape, dtype=torch.long, device=z.device) if y is None else y
    return z.transpose(0, 1).flatten(0, 1), y.T.flatten(), log_q.T.flatten()


def _log_prob_of_each(q: Posterior, z: Tensor) -> Tensor:
    """log q of each of z `[M, L]` under each of the B distributions, float64 `[M, B]`."""
    assert isinstance(q, Distribution) or hasattr(q, "log_prob")
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return log_normals(z, q.base_dist.loc, q.base_dist.scale)
    return q.log_prob(z.unsqueeze(-2)).double()
