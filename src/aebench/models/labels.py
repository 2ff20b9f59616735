"""What a model with labels says of an image whose label it is not told."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel, Posterior, Prior, divergence, rows, rsample_and_log_prob
from aebench.randomness import drawing_from, generator

# Samples of q(z|x, y) for each class in a pilot: an even number.
PILOT = 2
# Images whose samples for all classes are decoded together.
_TOGETHER = 20


def sampled_classes(model: Autoencoder | GenerativeModel) -> int:
    """How many classes labels are drawn from along with z: all where q or p(x|z) takes a label, else none."""
    return len(model.log_class_shares) if model.conditional_parts & {"posterior", "likelihood"} else 0  # type: ignore[arg-type]


@torch.no_grad()
def class_log_posterior(
    model: GenerativeModel,
    x: Tensor,
    samples: int = PILOT,
    q: Posterior | None = None,
    prior: Prior | None = None,
) -> Tensor:
    """log q(y|x) `[B, C]` with q(y|x) ∝ p(y) exp(ELBO_y(x)), the q(y|x) under which the ELBO on log p(x) is tightest.

    ELBO_y = E_q(z|x, y) log p(x|z, y) − KL(q(z|x, y) ‖ p(z|y)). Where the label moves the prior alone, the first term
    is the same for all classes and drops out; else it is the mean over a pilot of `samples` samples a class. Their
    noise is always the same, so the result is a function of x alone. Without a pilot (`samples` 0) it is p(y).

    Args:
        model: one that the label enters.
        x: `[B, D]`.
        samples: of the pilot, a class; an even number, since they come in pairs mirrored at the mean of a Gaussian q,
            in which much of the noise of E_q log p(x|z, y) cancels.
        q: in place of `model.posterior`, batch shape `[B·C]`: for every image all classes in turn.
        prior: p(z), where it is there already and takes no label.
    """
    log_p_y = model.log_class_shares
    classes = sampled_classes(model)
    if classes and samples == 0:
        return log_p_y.expand(len(x), -1)
    if classes:
        parts = [(x, q)] if q is not None else [(part, _of_all_classes(model, part)) for part in x.split(_TOGETHER)]
        # A q that is no Gaussian draws its pilot by itself, for one image at a time, so that none depends on others.
        alone = [
            (image, rows(q, slice(place * classes, (place + 1) * classes)) if len(part) > 1 else q)
            for part, q in parts
            if not _mirrored(q)
            for place, image in enumerate(part.split(1))
        ]
        elbos = [_elbos(model, part, samples, q, prior) for part, q in alone or parts]
        return torch.cat([torch.log_softmax(log_p_y + each, -1) for each in elbos])
    of_images = model.posterior(x)
    if not has_closed_form(model, of_images) and len(x) > 1:
        return torch.cat([class_log_posterior(model, image) for image in x.split(1)])

    def log_ratio() -> Tensor:
        z, log_q = _pilot(of_images, PILOT)
        return class_priors(model).log_prob(z[:, None]) - log_q()[:, None]

    return torch.log_softmax(log_p_y - divergence(of_images, class_priors(model), log_ratio).T, dim=-1)


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
    (Hershey & Olsen 2007, eq. 18, for one component in q). From samples that is too small on average, and a bound from
    it too high: by 0.015 nats of 0.5 with 32 samples of N(0, 1) and two classes at ±1. No kind here has that case.

    Args:
        model: p.
        q: of batch shape `[B]`.
        log_ratio: log p(z) − log q(z) of samples z of q, `[K, B]`, or for every class, where one moves the prior and y
            is not given, `[K, C, B]`; called only where there is no closed form.
        y: `[B]`.
        prior: `model.prior(y)`, where it is there already.
    """
    if y is None and model.conditional_parts:
        each = divergence(q, class_priors(model), log_ratio).to(model.log_class_shares.device)
        return -torch.logsumexp(model.log_class_shares.unsqueeze(-1) - each, dim=0)
    return divergence(q, model.prior(y) if prior is None else prior, log_ratio)


def has_closed_form(model: GenerativeModel, q: Posterior) -> bool:
    """Whether KL(q‖p(z|y)) has one, for a model whose label moves the prior alone."""
    try:
        kl_divergence(q, class_priors(model))  # type: ignore[arg-type]
    except NotImplementedError:
        return False
    return True


def class_priors(model: GenerativeModel) -> Prior:
    """p(z|y) of every class, batch shape `[C, 1]`: beside a q of batch shape `[B]`."""
    return model.prior(torch.arange(len(model.log_class_shares), device=model.log_class_shares.device)[:, None])


def _of_all_classes(model: GenerativeModel, x: Tensor) -> Posterior:
    """q(z|x, y) of batch shape `[B·C]`: for every image all classes in turn."""
    classes = len(model.log_class_shares)
    y = torch.arange(classes, device=x.device).repeat(len(x))
    return model.posterior(x.repeat_interleave(classes, dim=0), y)


def _elbos(model: GenerativeModel, x: Tensor, samples: int, q: Posterior, prior: Prior | None) -> Tensor:
    """ELBO_y for every class, `[B, C]`, with q of batch shape `[B·C]`."""
    classes = len(model.log_class_shares)
    z, log_q = _pilot(q, samples)
    y = torch.arange(classes, device=x.device).repeat(len(x)).expand(z.shape[:-1])
    log_px = model.likelihood(z, y).log_prob(x.repeat_interleave(classes, dim=0)).mean(0)
    of_class = model.prior(y[0]) if prior is None else prior
    each = divergence(q, of_class, lambda: of_class.log_prob(z) - log_q())
    return (log_px - each).view(len(x), classes)


def _mirrored(q: Posterior) -> bool:
    """Whether a pilot's samples come in pairs, with the same noise for every row of q's batch: those of Gaussians."""
    return isinstance(q, MultivariateNormal) or (isinstance(q, Independent) and isinstance(q.base_dist, Normal))


def _pilot(q: Posterior, samples: int) -> tuple[Tensor, Callable[[], Tensor]]:
    """`samples` of q, `[samples, B, L]`, and what gives log q of them, `[samples, B]`; the noise is always the same.

    Those of a Gaussian come in pairs mirrored at its mean, the noise the same for every row of its batch: differences
    between classes then vary less.
    """
    noise = generator("pilot")
    if not (isinstance(q, Distribution) and _mirrored(q)):
        with drawing_from(noise):
            drawn, log_q = rsample_and_log_prob(q, (samples,))
        return drawn, lambda: log_q
    epsilon = torch.randn(samples // 2, 1, q.event_shape[0], generator=noise).to(q.mean)
    scale = q.scale_tril if isinstance(q, MultivariateNormal) else torch.diag_embed(q.stddev)
    offset = (scale @ epsilon.unsqueeze(-1)).squeeze(-1)
    z = torch.cat([q.mean + offset, q.mean - offset])
    return z, lambda: q.log_prob(z)


def inferred_label(model: GenerativeModel, x: Tensor) -> Tensor:
    """arg max_y q(y|x), `[B, D]` → `[B]`: the Bayes classifier, with ELBO_y in place of log p(x|y)."""
    return class_log_posterior(model, x).argmax(-1)


def sample_prior(model: GenerativeModel, samples: int, y: Tensor) -> Tensor:
    """z ~ p(z|y), `[samples, B, L]` for labels `[B]`, drawn from torch's global generator."""
    if "prior" in model.conditional_parts:
        return model.prior(y).sample(torch.Size((samples,)))
    return model.prior().sample(torch.Size((samples, len(y))))
