"""What a model with labels says of an image whose label it is not told."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from aebench.models.autoencoder import LatentVariables
from aebench.randomness import generator

# Samples of q(z|x, y) for each class in a pilot: an even number.
PILOT = 2
# Images whose samples for all classes are decoded together.
_TOGETHER = 20


@torch.no_grad()
def class_log_posterior(
    model: LatentVariables, x: Tensor, samples: int = PILOT, q: Distribution | None = None
) -> Tensor:
    """log q(y|x) `[B, C]` with q(y|x) ∝ p(y) exp(ELBO_y(x)), the q(y|x) under which the ELBO on log p(x) is tightest.

    ELBO_y = E_q(z|x, y) log p(x|z, y) − KL(q(z|x, y) ‖ p(z|y)). Where the label moves the prior alone, the first term
    is the same for all classes and drops out; else it is the mean over a pilot of `samples` samples a class. Their
    noise is always the same, so the result is a function of x alone. Without a pilot (`samples` 0) it is p(y).

    Args:
        model: one that the label enters.
        x: `[B, D]`.
        samples: of the pilot, a class; an even number, since they come in pairs mirrored at the mean of q, in which
            much of the noise of E_q log p(x|z, y) cancels.
        q: in place of `model.posterior`, batch shape `[B·C]`: for every image all classes in turn.
    """
    log_p_y = model.log_class_shares
    if not model.label_enters & {"posterior", "likelihood"}:
        q = model.posterior(x)
        rate = torch.stack([kl_divergence(q, model.prior(_all(x, label))) for label in range(len(log_p_y))], dim=-1)
        return torch.log_softmax(log_p_y - rate, dim=-1)
    if samples == 0:
        return log_p_y.expand(len(x), -1)
    parts = [x] if q is not None else x.split(_TOGETHER)
    return torch.cat([torch.log_softmax(log_p_y + _elbos(model, part, samples, q), -1) for part in parts])


def _elbos(model: LatentVariables, x: Tensor, samples: int, q: Distribution | None) -> Tensor:
    """ELBO_y for every class, `[B, C]`."""
    classes = len(model.log_class_shares)
    y = torch.arange(classes, device=x.device).repeat(len(x))
    images = x.repeat_interleave(classes, dim=0)  # [B·C, D]
    q = q or model.posterior(images, y)
    # The same noise for every image and class: differences between classes then vary less.
    noise = torch.randn(samples // 2, 1, q.event_shape[0], generator=generator("pilot")).to(q.mean)
    scale = q.scale_tril if isinstance(q, MultivariateNormal) else torch.diag_embed(q.stddev)
    offset = (scale @ noise.unsqueeze(-1)).squeeze(-1)
    z = torch.cat([q.mean + offset, q.mean - offset])  # [samples, B·C, L]
    log_px = model.likelihood(z, y).log_prob(images).mean(0)
    prior = model.prior(y)
    try:
        rate = kl_divergence(q, prior)
    except NotImplementedError:  # no closed form: from the samples
        rate = (q.log_prob(z) - prior.log_prob(z)).mean(0)
    return (log_px - rate).view(len(x), classes)


def inferred_label(model: LatentVariables, x: Tensor) -> Tensor:
    """arg max_y q(y|x), `[B, D]` → `[B]`: the Bayes classifier, with ELBO_y in place of log p(x|y)."""
    return class_log_posterior(model, x).argmax(-1)


def _all(x: Tensor, label: int) -> Tensor:
    return torch.full((len(x),), label, device=x.device)
