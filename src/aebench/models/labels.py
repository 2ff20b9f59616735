"""What a model with labels says of an image whose label it is not told."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel, Posterior, Prior, divergence, rsample_and_log_prob
from aebench.randomness import drawing_from, generator

# Samples of q(z|x, y) for each class in a pilot: an even number.
PILOT = 2
# Images whose samples for all classes are decoded together.
_TOGETHER = 20


def sampled_classes(model: Autoencoder | GenerativeModel) -> int:
    """How many classes labels are drawn from along with z: all where q or p(x|z) takes a label, else none."""
    return len(model.log_class_shares) if model.conditional_parts & {"posterior", "likelihood"} else 0  # type: ignore[arg-type]


@torch.no_grad()
def class_log_posterior(model: GenerativeModel, x: Tensor, samples: int = PILOT, q: Posterior | None = None) -> Tensor:
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
    if not sampled_classes(model):
        return torch.log_softmax(log_p_y - class_divergences(model, model.posterior(x)).T, dim=-1)
    if samples == 0:
        return log_p_y.expand(len(x), -1)
    parts = [x] if q is not None else x.split(_TOGETHER)
    return torch.cat([torch.log_softmax(log_p_y + _elbos(model, part, samples, q), -1) for part in parts])


def class_divergences(model: GenerativeModel, q: Posterior) -> Tensor:
    """KL(q(z|x) ‖ p(z|y)) for every class, `[C, B]` in nats, of a model whose label moves the prior alone."""
    priors = _class_priors(model)

    def log_ratio() -> Tensor:
        z, log_q = _pilot(q, PILOT)
        return priors.log_prob(z[:, None]) - log_q()[:, None]

    return divergence(q, priors, log_ratio)


def rate(
    model: GenerativeModel,
    q: Posterior,
    log_ratio: Callable[[], Tensor],
    y: Tensor | None = None,
    prior: Prior | None = None,
) -> Tensor:
    """KL(q‖p) in nats, `[B]`, given labels y, or without a label; in closed form where there is one.

    Without a label, where one moves the prior, it is of the joint (z, y) under the best q(y|x), which is proportional
    to p(y) exp(−KL(q‖p(z|y))): −log Σ_y p(y) exp(−KL(q‖p(z|y))), an upper bound on the divergence of z alone
    (Hershey & Olsen 2007, eq. 18, for one component in q).

    Args:
        model: p.
        q: of batch shape `[B]`.
        log_ratio: log p(z) − log q(z) of samples z of q, `[K, B]`; called only where there is no closed form.
        y: `[B]`.
        prior: `model.prior(y)`, where it is there already.
    """
    if y is None and model.conditional_parts:
        closed_form = partial(_divergence_of_joint, log_p_y=model.log_class_shares)
        return divergence(q, _class_priors(model), log_ratio, closed_form)
    return divergence(q, model.prior(y) if prior is None else prior, log_ratio)


def _class_priors(model: GenerativeModel) -> Prior:
    """p(z|y) of every class, batch shape `[C, 1]`: beside a q of batch shape `[B]`."""
    return model.prior(torch.arange(len(model.log_class_shares), device=model.log_class_shares.device)[:, None])


def _divergence_of_joint(q: Posterior, priors: Prior, *, log_p_y: Tensor) -> Tensor:
    return -torch.logsumexp(log_p_y.unsqueeze(-1) - kl_divergence(q, priors), dim=0)  # type: ignore[arg-type]


def _elbos(model: GenerativeModel, x: Tensor, samples: int, q: Posterior | None) -> Tensor:
    """ELBO_y for every class, `[B, C]`."""
    classes = len(model.log_class_shares)
    y = torch.arange(classes, device=x.device).repeat(len(x))
    images = x.repeat_interleave(classes, dim=0)  # [B·C, D]
    q = model.posterior(images, y) if q is None else q
    z, log_q = _pilot(q, samples)
    log_px = model.likelihood(z, y).log_prob(images).mean(0)
    prior = model.prior(y)
    rate = divergence(q, prior, lambda: prior.log_prob(z) - log_q())
    return (log_px - rate).view(len(x), classes)


def _pilot(q: Posterior, samples: int) -> tuple[Tensor, Callable[[], Tensor]]:
    """`samples` of q, `[samples, B, L]`, and what gives log q of them, `[samples, B]`.

    The noise is the same for every row of q's batch: differences between classes then vary less. The samples come in
    pairs mirrored at the mean where q has a mean and a standard deviation, else as q draws them.
    """
    noise = generator("pilot")
    try:
        if isinstance(q, Distribution):
            mean, scale = q.mean, q.scale_tril if isinstance(q, MultivariateNormal) else torch.diag_embed(q.stddev)
            epsilon = torch.randn(samples // 2, 1, q.event_shape[0], generator=noise).to(mean)
            offset = (scale @ epsilon.unsqueeze(-1)).squeeze(-1)
            z = torch.cat([mean + offset, mean - offset])
            return z, lambda: q.log_prob(z)
    except NotImplementedError:
        pass
    with drawing_from(noise):
        drawn, log_q = rsample_and_log_prob(q, (samples,))
    return drawn, lambda: log_q


def inferred_label(model: GenerativeModel, x: Tensor) -> Tensor:
    """arg max_y q(y|x), `[B, D]` → `[B]`: the Bayes classifier, with ELBO_y in place of log p(x|y)."""
    return class_log_posterior(model, x).argmax(-1)
