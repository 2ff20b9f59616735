"""Held-out ELBO and importance-weighted log-likelihood, for any model with prior, posterior and likelihood.

On the CPU images are taken one at a time: the logits of one image's samples stay in the processor's cache, memory
depends neither on the number of images nor, but for the weights themselves, on the number of samples, and no image's
value depends on the images beside it. A GPU, which one image cannot fill, takes a group of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MultivariateNormal, kl_divergence

from aebench.models.autoencoder import Autoencoder, LatentVariables
from aebench.models.labels import PILOT, class_log_posterior
from aebench.models.likelihoods import Likelihood
from aebench.models.objectives import importance_weighted_bound
from aebench.randomness import drawing_from

# Samples that are decoded together: more would not leave the processor's cache, fewer would not fill its units.
CHUNK = 512
# Logits of a group of images that are computed together on a GPU.
LOGITS = 2**26
# Samples that are drawn together.
BLOCK = 1024
# They are drawn and decoded in multiples of this: torch draws and multiplies few rows differently.
ROWS = 32

Proposal = Callable[[Tensor | None], Distribution]
"""From labels `[B]`, or none, to what one image's samples are drawn from: batch shape `[B]`, or `[1]`.

For a group of G images: from labels `[…, G]`, or none, to a batch shape `[…, G]`, or `[G]`.
"""


@dataclass(frozen=True)
class Draws:
    """K samples of one image, in nats.

    `log_weights`: log p(x|z_k) p(z_k) / q(z_k|x) for z_k ~ q, float64 `[K]`, in an exchangeable order.
    `distortion`: −E_q log p(x|z), from the same samples.
    """

    log_weights: Tensor
    distortion: float

    @property
    def iw_log_likelihood(self) -> float:
        """log (1/K) Σ_k w_k in nats (Burda et al. 2016, eq. 8): in expectation a lower bound on log p(x)."""
        return importance_weighted_bound(self.log_weights).item()


@dataclass(frozen=True)
class Estimate:
    """One image under the model in which the label, if any, is summed out, and given its label.

    `log_q_y`: log q(y|x), `[C]`, from which the labels of the marginal's samples were drawn, where they were drawn.
    """

    marginal: Draws
    given_label: Draws | None = None
    log_q_y: Tensor | None = None


@final
class Prepared:
    """The proposals of a group of images, made together: one an image, or one an image and class."""

    def __init__(self, make: Callable[[Tensor, Tensor | None], Distribution], x: Tensor, classes: int = 0) -> None:
        """`make` gives q of batch shape `[B]` for images `[B, D]` and, where `classes` is not 0, labels `[B]`."""
        self._classes, self._places = classes, torch.arange(len(x), device=x.device)
        if classes:
            self.q = make(x.repeat_interleave(classes, dim=0), torch.arange(classes, device=x.device).repeat(len(x)))
        else:
            self.q = make(x, None)

    def of(self, image: int) -> Proposal:
        """The proposal of the image at this place of the group, for labels `[B]` where it depends on them."""
        place = self._places[image : image + 1]
        if not self._classes:
            q = _rows(self.q, place)
            return lambda _: q
        return lambda y: _rows(self.q, place if y is None else place * self._classes + y)

    def of_all(self) -> Proposal:
        """The proposal of the whole group."""
        if not self._classes:
            return lambda _: self.q
        return lambda y: _rows(self.q, self._places if y is None else self._places * self._classes + y)


def _rows(q: Distribution, index: Tensor) -> Distribution:
    """The distributions at `index` of a batch `[B]`, for a distribution that its parameters make up."""
    if isinstance(q, Independent):
        return Independent(_rows(q.base_dist, index), q.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(q, MultivariateNormal):  # which has three parameters for its covariance
        return MultivariateNormal(q.loc[index], scale_tril=q.scale_tril[index], validate_args=False)
    parameters = {name: getattr(q, name)[index] for name in q.arg_constraints}
    return type(q)(**parameters, validate_args=False)


def amortised(model: LatentVariables, x: Tensor) -> Proposal:
    """The model's own q of the image x `[1, D]`, for each class where labels are drawn."""
    if classes := drawn_classes(model):
        return Prepared(model.posterior, x, classes).of(0)
    q = model.posterior(x)
    return lambda _: q


def drawn_classes(model: Autoencoder | LatentVariables) -> int:
    """How many classes labels are drawn from along with z: all where the label enters q or p(x|z), else none."""
    return len(model.log_class_shares) if model.label_enters & {"posterior", "likelihood"} else 0  # type: ignore[arg-type]


def sharing(samples: int, classes: int) -> tuple[int, int]:
    """How K samples are spent: (those of the pilot for each of `drawn_classes`, those that are weighted).

    The pilot has `PILOT` samples a class, fewer where that would be more than half of K. Both together are K.
    """
    if not classes:
        return 0, samples
    pilot = min(PILOT, samples // (2 * classes)) // 2 * 2
    return pilot, samples - pilot * classes


@torch.no_grad()
def estimate(
    model: LatentVariables,
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    *,
    label: Tensor | None = None,
    proposal: Proposal | None = None,
    chunk: int = CHUNK,
) -> Estimate:
    """One image's importance weights from K = `samples` samples.

    Where a label enters q(z|x, y) or p(x|z, y), the samples of the marginal are shared between the classes: labels are
    drawn from q(y|x), which a pilot gives, then z from q(z|x, y), and the weight of both is
    p(y) p(z|y) p(x|z, y) / q(y|x) q(z|x, y). Where it moves the prior alone, it is summed out exactly: the prior is
    Σ_y p(y) p(z|y), and both figures come from the same samples.

    Args:
        model: p and, unless `proposal` is given, q.
        x: the image, `[1, D]`.
        samples: K, exactly; the pilot's are among them.
        generator: draws this image's samples.
        label: `[1]`; asks for the estimate given the label too. The marginal never sees it.
        proposal: what to draw from in place of the model's own q.
        chunk: samples that are decoded together.

    Returns:
        The marginal's draws, and those given the label where one is asked for; log q(y|x) where labels are drawn.
    """
    q = proposal or amortised(model, x)
    if not drawn_classes(model):
        priors = [model.prior()] if label is None else [model.prior(), model.prior(label)]
        (marginal,), *given = _draws(q(None), priors, model.likelihood, x, samples, generator, chunk)
        return Estimate(marginal, given[0][0] if given else None)

    classes = torch.arange(drawn_classes(model), device=x.device)
    pilot, drawn = sharing(samples, len(classes))
    log_q_y = class_log_posterior(model, x, pilot, q(classes))[0]
    y = _labels(log_q_y, drawn, generator)
    log_px, log_ratio = _given(model, q, y, x, generator, chunk)
    marginal = Draws(log_px + log_ratio + (model.log_class_shares - log_q_y)[y].double(), -log_px.mean().item())
    if label is None:
        return Estimate(marginal, log_q_y=log_q_y)
    # The marginal's samples of that class are samples of q(z|x, y): only what is missing of K is drawn.
    have = y == label
    more = _given(model, q, label.expand(samples - int(have.sum())), x, generator, chunk)
    log_px, log_ratio = (torch.cat([old[have], new]) for old, new in zip((log_px, log_ratio), more, strict=True))
    return Estimate(marginal, Draws(log_px + log_ratio, -log_px.mean().item()), log_q_y)


@torch.no_grad()
def rate(model: LatentVariables, q: Proposal, *, y: Tensor | None = None, log_q_y: Tensor | None = None) -> float:
    """KL(q‖p) of one image in closed form, in nats; the ELBO is −distortion − rate (Kingma & Welling 2014, eq. 3).

    Given the label `y` `[1]` it is of q(z|x, y) and p(z|y). Where labels are drawn from q(y|x) it is of the joint,
    E_q(y|x)[KL(q(z|x, y) ‖ p(z|y)) + log q(y|x) − log p(y)]. Where the label moves the prior alone, it is of the joint
    too, under the best q(y|x).
    """
    if log_q_y is None:
        return kl_divergence(q(y), model.prior(y)).item()
    labels = torch.arange(len(log_q_y), device=log_q_y.device)
    return _of_joint(log_q_y, model.log_class_shares, kl_divergence(q(labels), model.prior(labels)))


def _of_joint(log_q_y: Tensor, log_p_y: Tensor, divergences: Tensor) -> float:
    """KL(q(z, y|x) ‖ p(z, y)) of one image from the divergences of z for each class, all `[C]`."""
    possible = (log_q_y > -math.inf).nonzero()[:, 0]
    each = divergences[possible].double() + (log_q_y - log_p_y)[possible].double()
    return float((log_q_y[possible].double().exp() * each).sum())


@torch.no_grad()
def estimates(
    model: LatentVariables,
    proposals: Prepared,
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    *,
    label: Tensor | None = None,
) -> list[Estimate]:
    """`estimate` of a group of images `[B, D]` at once, drawn from one generator; the results are on the CPU.

    Given the labels `[B]`, all K samples are drawn afresh, where `estimate` uses the marginal's samples of a label too.
    """
    q, chunk = proposals.of_all(), max(1, LOGITS // x.numel())
    if not drawn_classes(model):
        priors = [model.prior()] if label is None else [model.prior(), model.prior(label)]
        each = zip(*_draws(q(None), priors, model.likelihood, x, samples, generator, chunk), strict=True)
        return [Estimate(*of_image) for of_image in each]

    pilot, drawn = sharing(samples, drawn_classes(model))
    log_q_y = class_log_posterior(model, x, pilot, proposals.q)
    y = torch.stack([_labels(of_image, drawn, generator) for of_image in log_q_y.cpu()], dim=1).to(x.device)
    log_px, log_ratio = _given(model, q, y, x, generator, chunk)
    log_ratio += (model.log_class_shares - log_q_y).T.gather(0, y).double()
    marginal = _for_each_image(log_px, log_ratio)
    if label is None:
        return [Estimate(draws, log_q_y=of_image) for draws, of_image in zip(marginal, log_q_y.cpu(), strict=True)]
    given = _for_each_image(*_given(model, q, label.expand(samples, -1), x, generator, chunk))
    return [Estimate(*of_image) for of_image in zip(marginal, given, log_q_y.cpu(), strict=True)]


@torch.no_grad()
def rates(
    model: LatentVariables, proposals: Prepared, *, y: Tensor | None = None, log_q_y: Tensor | None = None
) -> list[float]:
    """`rate` of a group of images at once; `log_q_y` is `[B, C]`, on the CPU."""
    q = proposals.of_all()
    if log_q_y is None:
        found: list[float] = kl_divergence(q(y), model.prior(y)).tolist()
        return found
    images, classes = log_q_y.shape
    labels = torch.arange(classes, device=model.log_class_shares.device)[:, None].expand(classes, images)
    divergences, log_p_y = kl_divergence(q(labels), model.prior(labels)).T.cpu(), model.log_class_shares.cpu()
    return [_of_joint(of_image, log_p_y, each) for of_image, each in zip(log_q_y, divergences, strict=True)]


def _draws(
    q: Distribution,
    priors: list[Distribution],
    likelihood: Callable[[Tensor], Likelihood],
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    chunk: int,
) -> list[list[Draws]]:
    """K samples of q for each image, weighted under each of `priors`; the first K are the same whatever K."""
    log_px = x.new_empty(samples, len(x), dtype=torch.float64)
    log_ratios = x.new_empty(len(priors), samples, len(x), dtype=torch.float64)
    with drawing_from(generator):
        for start in range(0, samples, BLOCK):
            block = slice(start, min(start + BLOCK, samples))
            used = block.stop - start
            z = q.rsample(torch.Size((-(-used // ROWS) * ROWS,)))
            log_px[block] = torch.cat([likelihood(part).log_prob(x) for part in z.split(chunk)])[:used]
            log_q = q.log_prob(z[:used])
            for prior, ratios in zip(priors, log_ratios, strict=True):
                ratios[block] = prior.log_prob(z[:used]) - log_q
    return [_for_each_image(log_px, ratios) for ratios in log_ratios]


def _for_each_image(log_px: Tensor, log_ratios: Tensor) -> list[Draws]:
    """From `[K, B]` both, float64."""
    log_weights, log_px = (values.T.contiguous().cpu() for values in (log_px + log_ratios, log_px))
    return [Draws(weights, -each.mean().item()) for weights, each in zip(log_weights, log_px, strict=True)]


def _given(
    model: LatentVariables, q: Proposal, y: Tensor, x: Tensor, generator: torch.Generator, chunk: int
) -> tuple[Tensor, Tensor]:
    """log p(x|z, y) and log p(z|y) / q(z|x, y), float64 `[K]`, of one z ~ q(z|x, y) for each of the labels `[K]`.

    For a group of images the labels are `[K, B]`, and so is the result.
    """
    log_px, log_ratio = [x.new_zeros(0)], [x.new_zeros(0)]
    with drawing_from(generator):
        for labels in y.split(BLOCK) if len(y) else ():
            q_of_each = q(labels)
            z = q_of_each.rsample()
            parts = zip(z.split(chunk), labels.split(chunk), strict=True)
            log_px += [model.likelihood(part, of_part).log_prob(x) for part, of_part in parts]
            log_ratio.append(model.prior(labels).log_prob(z) - q_of_each.log_prob(z))
    return torch.cat(log_px).double(), torch.cat(log_ratio).double()


def _labels(log_q_y: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Labels `[samples]` from q(y|x), in an order in which they are exchangeable.

    They come from systematic sampling: one uniform number sets all of them, each is y with probability q(y|x), and
    each class has its share to within one sample. The mean of the weights is therefore unbiased, with less variance
    than from independent labels.
    """
    shares = log_q_y.double().exp()
    start = torch.rand(1, generator=generator, dtype=torch.float64).to(shares.device)
    ends = (shares.cumsum(0) / shares.sum() * samples - start).ceil().clamp(0, samples).long()
    ends[-1] = samples
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    order = torch.randperm(samples, generator=generator).to(shares.device)
    return torch.arange(len(shares), device=shares.device).repeat_interleave(counts)[order]


@torch.no_grad()
def elbo(model: LatentVariables, x: Tensor, samples: int, pilot: int, generator: torch.Generator) -> Tensor:
    """The ELBO of many images at once in nats, `[B, D]` → `[B]`, from a few samples each: for means over many images.

    It estimates the same quantity as `estimate` and `rate` do, −distortion − rate, labels included (Kingma & Welling
    2014, eq. 3). `pilot`: samples a class of `class_log_posterior`.
    """
    log_q_y = class_log_posterior(model, x, pilot) if drawn_classes(model) else None
    total = x.new_zeros(len(x))
    with drawing_from(generator):
        for _ in range(samples):
            y = None if log_q_y is None else Categorical(logits=log_q_y, validate_args=False).sample()
            q = model.posterior(x, y)
            total += model.likelihood(q.rsample(), y).log_prob(x) - kl_divergence(q, model.prior(y))
            if log_q_y is not None and y is not None:
                total += model.log_class_shares[y] - log_q_y.gather(1, y[:, None])[:, 0]
    return total / samples
