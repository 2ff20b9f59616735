"""log p(x) between two bounds: on images that the model itself makes, whose latents are known.

For x ~ p(x|z*), z* ~ p(z), the latent z* is an exact sample of the posterior p(z|x). With it the mean of K weights
bounds log p(x) from above where without it, it bounds it from below (Burda et al. 2016, eq. 8; Wu et al. 2017, §3;
Sobolev & Vetrov 2019, eq. 6):

    E log (1/K) Σ_k w(z_k) ≤ log p(x) ≤ E log (1/K) [w(z*) + Σ_{k<K} w(z_k)],   w(z) = p(x, z) / q(z|x), z_k ~ q(z|x).
"""

import torch
from torch import Tensor

from aebench.config import Evaluation
from aebench.evaluation.likelihoods import group_size
from aebench.evaluation.marginal import Marginal, draw_labels
from aebench.evaluation.proposals import importance_budget, propose
from aebench.models.generative import GenerativeModel, Posterior, rsample_and_log_prob
from aebench.models.labels import sample_prior
from aebench.models.objectives import importance_weighted_bound
from aebench.randomness import drawing_from, generator


@torch.no_grad()
def bound_gaps(model: GenerativeModel, config: Evaluation, seed: int) -> Tensor:
    """Upper minus lower bound on log p(x) in nats, `[N]`, on `bound_gap_images` images that the model makes.

    The proposal and K are those of the test images; only labels, if any, are drawn independently of each other, since
    the upper bound needs samples of which any one could be z*. One image's gap may be negative; their mean, but for
    its error, is not.

    Raises:
        TypeError: the proposal has no density at a point that it did not draw.
    """
    marginal = Marginal(model)
    budget, gaps = importance_budget(config.proposal, config.importance_samples, marginal.classes), []
    size = group_size(marginal, config.importance_samples)
    for first in range(0, config.bound_gap_images, size):
        noise = generator(seed, "simulated images", first)
        z, y, x = _simulated(marginal, min(size, config.bound_gap_images - first), noise)
        proposal = propose(
            config.proposal, marginal, x, seed=seed, first=first, purpose="refinement, simulated images"
        ).marginal
        estimate = marginal.estimate(x, budget, noise, proposal=proposal, independent_labels=True, for_rate=False)
        lower = estimate.marginal.log_weights
        upper = torch.cat([marginal.log_weight(x, z, y, proposal, budget)[None], lower[1:]])
        gaps.append(importance_weighted_bound(upper) - importance_weighted_bound(lower))
    return torch.cat(gaps)


def _simulated(marginal: Marginal, images: int, noise: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor]:
    """z* ~ p(z|y*), `[B, L]`, y* ~ p(y), `[B]`, where a label enters the model, and x ~ p(x|z*, y*), `[B, D]`."""
    model, y = marginal.model, None
    if model.conditional_parts:
        y = draw_labels(model.log_class_shares.cpu(), images, noise).to(model.log_class_shares.device)
    with drawing_from(noise):
        z = marginal.prior().sample(torch.Size((images,))) if y is None else sample_prior(model, 1, y)[0]
        return z, y, model.likelihood(z, y).sample()


def scores_any(q: Posterior) -> bool:
    """Whether q has a density at a point that it did not draw."""
    with drawing_from(generator("a point")):
        point, _ = rsample_and_log_prob(q)
    try:
        return hasattr(q, "log_prob") and bool(q.log_prob(point).isfinite().all())
    except NotImplementedError:  # of a transformation without an inverse
        return False
