"""The label as one more latent: a model's bounds on log p(x) = log Σ_y p(y) p(x|y), which never see the image's label.

Where the label moves the prior alone, it is summed out exactly: the prior is Σ_y p(y) p(z|y). Where q(z|x, y) or
p(x|z, y) takes it, the samples are split between the classes: labels are drawn from q(y|x), which a pilot gives, then z
from q(z|x, y), and the weight of both is p(y) p(z|y) p(x|z, y) / q(y|x) q(z|x, y). A model without labels is left as it
is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self, final

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from aebench.evaluation.estimators import BLOCK, Draws, chunk_size, draws
from aebench.models.generative import GenerativeModel, Posterior, Prior, divergence, rows, rsample_and_log_prob
from aebench.models.labels import PILOT, class_log_posterior, has_closed_form, rate, sampled_classes
from aebench.randomness import drawing_from


class Budget(NamedTuple):
    """How many samples an image has: those of the pilot for each class, and those that are weighted."""

    pilot: int
    weighted: int


def split_budget(samples: int, classes: int) -> Budget:
    """K samples for `sampled_classes`, the pilot's included.

    The pilot has `PILOT` samples a class, fewer where that would be more than half of K.
    """
    if not classes:
        return Budget(0, samples)
    pilot = min(PILOT, samples // (2 * classes)) // 2 * 2
    return Budget(pilot, samples - pilot * classes)


@final
class BatchedProposal:
    """The proposals of B images, made together: q(z|x), or q(y|x) q(z|x, y) with one q(z|x, y) an image and class."""

    def __init__(self, q: Posterior, classes: int = 0, log_q_y: Tensor | None = None) -> None:
        """`q` has the batch shape `[B]`, or where `classes` is not 0 `[B·C]`: for every image all classes in turn.

        `log_q_y`: log q(y|x), `[B, C]`, where it is fitted too; else a pilot gives it.
        """
        self.q, self._classes, self.log_q_y = q, classes, log_q_y

    @classmethod
    def make(cls, posterior: Callable[[Tensor, Tensor | None], Posterior], x: Tensor, classes: int = 0) -> Self:
        """`posterior` gives q of batch shape `[B]` for images `[B, D]` and, where `classes` is not 0, labels `[B]`."""
        if not classes:
            return cls(posterior(x, None))
        y = torch.arange(classes, device=x.device).repeat(len(x))
        return cls(posterior(x.repeat_interleave(classes, dim=0), y), classes)

    def of(self, image: int) -> "BatchedProposal":
        """The proposal of the image at this place, B = 1."""
        each = max(1, self._classes)
        log_q_y = None if self.log_q_y is None else self.log_q_y[image : image + 1]
        return BatchedProposal(rows(self.q, slice(image * each, (image + 1) * each)), self._classes, log_q_y)

    def given(self, y: Tensor | None = None) -> Posterior:
        """q of batch shape `[B]`, or where it depends on the label, for labels `[…, B]`, of batch shape `[…, B]`."""
        if not self._classes or y is None:
            return self.q
        return rows(self.q, torch.arange(y.shape[-1], device=y.device) * self._classes + y)


@dataclass(frozen=True)
class Estimate:
    """B images under the model in which the label, if any, is summed out, and given their labels.

    `log_q_y`: log q(y|x), `[B, C]`, from which the labels of the marginal's samples were drawn, where they were drawn.
    `log_ratio_of_class`: log p(z|y) − log q(z|x) for every class, `[K, C, B]`, where the label moves the prior alone
    and the divergence has no closed form.
    """

    marginal: Draws
    given_label: Draws | None = None
    log_q_y: Tensor | None = None
    log_ratio_of_class: Tensor | None = None


@final
class Marginal:
    """A model with its label summed out; a prior that is dear to make is made once."""

    @torch.no_grad()
    def __init__(self, model: GenerativeModel) -> None:
        """`model` stays as it is as long as this is used."""
        self.model = model
        self.classes = sampled_classes(model)
        self._own_prior = None if self.classes and "prior" in model.conditional_parts else model.prior()

    def prior(self, y: Tensor | None = None) -> Prior:
        """p(z), or p(z|y) where the label enters the prior."""
        if self._own_prior is None or (y is not None and "prior" in self.model.conditional_parts):
            return self.model.prior(y)
        return self._own_prior

    @torch.no_grad()
    def amortised(self, x: Tensor) -> BatchedProposal:
        """The model's own q of images `[B, D]`, for each class where labels are drawn."""
        return BatchedProposal.make(self.model.posterior, x, self.classes)

    @torch.no_grad()
    def log_q_y(self, proposal: BatchedProposal, x: Tensor, pilot: int = PILOT) -> Tensor:
        """log q(y|x) of images `[B, D]`, `[B, C]`: the proposal's own, or that of `pilot` samples a class."""
        if proposal.log_q_y is not None:
            return proposal.log_q_y
        return class_log_posterior(self.model, x, pilot, proposal.q, self._own_prior)

    @torch.no_grad()
    def estimate(
        self,
        x: Tensor,
        budget: Budget | int,
        generator: torch.Generator,
        *,
        proposal: BatchedProposal | None = None,
        label: Tensor | None = None,
        given_label: BatchedProposal | None = None,
        for_rate: bool = True,
        independent_labels: bool = False,
    ) -> Estimate:
        """Importance weights of B images.

        Args:
            x: the images, `[B, D]`.
            budget: how many samples an image has; a number K is split by `split_budget`.
            generator: draws the samples.
            proposal: what to draw from in place of the model's own q.
            label: `[B]`; asks for the estimate given the label too. The marginal never sees it.
            given_label: what to draw from in place of `proposal` where samples have that label because it is given.
            for_rate: whether `rate` will be asked for.
            independent_labels: draws the labels independently of each other, where they are drawn.
        """
        proposal = proposal or self.amortised(x)
        if isinstance(budget, int):
            budget = split_budget(budget, self.classes if proposal.log_q_y is None else 0)
        pilot, samples = budget
        if not self.classes:
            q, priors = proposal.given(), [self.prior(), *([] if label is None else [self.prior(label)])]
            of_class = self._priors_of_classes(q, len(x)) if for_rate else []
            of_priors = draws(q, [*priors, *of_class], self.model.likelihood, x, samples, generator)
            ratios = torch.stack([each.log_ratio for each in of_priors[len(priors) :]], dim=1) if of_class else None
            return Estimate(of_priors[0], None if label is None else of_priors[1], log_ratio_of_class=ratios)

        log_q_y = self.log_q_y(proposal, x, pilot)
        drawn = draw_labels if independent_labels else _systematic
        y = torch.stack([drawn(of_image, samples, generator) for of_image in log_q_y.cpu()], dim=1).to(x.device)
        log_px, log_ratio = self._given(proposal, y, x, generator)
        of_label = (self.model.log_class_shares - log_q_y).T.gather(0, y)
        marginal = Draws(log_px, log_px + log_ratio + of_label.double().cpu())
        if label is None:
            return Estimate(marginal, log_q_y=log_q_y.cpu())
        wanted = samples + pilot * self.classes
        missing = wanted - (y == label).sum(0).cpu()
        # Of several images each has all, so that what one has depends on no other's labels.
        more = int(missing.max()) if len(x) == 1 else wanted
        fresh = self._given(given_label or proposal, label.expand(more, -1), x, generator)
        return Estimate(marginal, _completed((log_px, log_ratio), (y == label).cpu(), fresh, missing), log_q_y.cpu())

    @torch.no_grad()
    def log_weight(self, x: Tensor, z: Tensor, y: Tensor | None, proposal: BatchedProposal, budget: Budget) -> Tensor:
        """log p(x, z) / q(z|x) of one latent `[B, L]` an image, `[B]`, with its label `[B]` where labels are drawn.

        Raises:
            TypeError: q has no density at a point that it did not draw.
        """
        y = y if self.classes else None
        q = proposal.given(y)
        if not hasattr(q, "log_prob"):
            raise TypeError(f"a {type(q).__name__} has no density at a point that it did not draw")
        log_weight = self.model.likelihood(z, y).log_prob(x) + self.prior(y).log_prob(z) - q.log_prob(z)
        if y is not None:
            of_label = self.model.log_class_shares - self.log_q_y(proposal, x, budget.pilot)
            log_weight = log_weight + of_label.gather(1, y[:, None]).squeeze(1)
        return log_weight.double().cpu()

    def _priors_of_classes(self, q: Posterior, images: int) -> list[Prior]:
        """p(z|y) of each class, where the label moves the prior alone and q's divergence has no closed form."""
        if not self.model.conditional_parts or has_closed_form(self.model, q):
            return []
        classes = torch.arange(len(self.model.log_class_shares), device=self.model.log_class_shares.device)
        return [self.model.prior(label.expand(images)) for label in classes]

    def _given(
        self, proposal: BatchedProposal, y: Tensor, x: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """log p(x|z, y) and log p(z|y)/q(z|x, y), float64 `[K, B]`, of one z ~ q(z|x, y) for each label `[K, B]`."""
        values, chunk = x.new_empty(2, *y.shape, dtype=torch.float64), chunk_size(x)
        with drawing_from(generator):
            for start in range(0, len(y), BLOCK):
                block = slice(start, start + BLOCK)
                labels, q = y[block], proposal.given(y[block])
                z, log_q = rsample_and_log_prob(q)
                parts = zip(z.split(chunk), labels.split(chunk), strict=True)
                values[0, block] = torch.cat([self.model.likelihood(*part).log_prob(x) for part in parts])
                values[1, block] = self.prior(labels).log_prob(z) - log_q
        log_px, log_ratio = values.cpu()
        return log_px, log_ratio

    @torch.no_grad()
    def rate(self, proposal: BatchedProposal, estimate: Estimate) -> Tensor:
        """KL(q‖p) in nats, `[B]`; the ELBO is −distortion − rate (Kingma & Welling 2014, eq. 3).

        In closed form where there is one, else from the samples of `estimate`, which are those of `proposal`. Where a
        label enters the model it is of the joint: E_q(y|x)[KL(q(z|x, y) ‖ p(z|y)) + log q(y|x) − log p(y)] where labels
        are drawn from q(y|x), and under the best q(y|x) where the label moves the prior alone.
        """
        if estimate.log_q_y is None:
            of_class = estimate.log_ratio_of_class
            ratio = estimate.marginal.log_ratio if of_class is None else of_class
            result = rate(self.model, proposal.given(), lambda: ratio, prior=self._own_prior)
        else:
            log_q_y = estimate.log_q_y.to(self.model.log_class_shares.device)
            labels = torch.arange(self.classes, device=log_q_y.device)[:, None].expand(-1, len(log_q_y))
            closed_form = partial(_divergence_with_drawn_labels, log_q_y=log_q_y.T, log_p_y=self.model.log_class_shares)
            q, prior = proposal.given(labels), self.prior(labels)
            result = divergence(q, prior, lambda: estimate.marginal.log_ratio, closed_form)
        return result.double().cpu()

    @torch.no_grad()
    def rate_given_label(self, proposal: BatchedProposal, estimate: Estimate, label: Tensor) -> Tensor:
        """KL(q(z|x, y) ‖ p(z|y)) in nats, `[B]`, for the labels `[B]` with which `estimate` was made."""
        assert estimate.given_label is not None
        log_ratio = estimate.given_label.log_ratio
        return rate(self.model, proposal.given(label), lambda: log_ratio, label, self.prior(label)).double().cpu()

    def elbo(
        self, x: Tensor, budget: Budget, generator: torch.Generator, proposal: BatchedProposal | None = None
    ) -> Tensor:
        """−distortion − rate of images `[B, D]` under their own q, or under `proposal`, in nats, `[B]`."""
        proposal = proposal or self.amortised(x)
        estimate = self.estimate(x, budget, generator, proposal=proposal)
        return -estimate.marginal.distortion - self.rate(proposal, estimate)


def _completed(
    of_all: tuple[Tensor, Tensor], has_label: Tensor, fresh: tuple[Tensor, Tensor], missing: Tensor
) -> Draws:
    """Draws given the label: the marginal's samples that have it are such draws, and `missing` `[B]` are fresh ones."""

    def joined(old: Tensor, new: Tensor) -> Tensor:
        each = [torch.cat([old[has_label[:, i], i], new[:more, i]]) for i, more in enumerate(missing.tolist())]
        return torch.stack(each, dim=1)

    log_px, log_ratio = map(joined, of_all, fresh)
    return Draws(log_px, log_px + log_ratio)


def _divergence_with_drawn_labels(q: Posterior, prior: Prior, *, log_q_y: Tensor, log_p_y: Tensor) -> Tensor:
    """KL(q(z, y|x) ‖ p(z, y)), `[B]`, from q(z|x, y) and p(z|y) of batch shape `[C, B]` and log q(y|x) `[C, B]`."""
    each = kl_divergence(q, prior).double() + (log_q_y - log_p_y[:, None]).double()  # type: ignore[arg-type]
    shares = log_q_y.double().exp()
    return torch.where(shares > 0, shares * each, 0).sum(0)


def draw_labels(log_q_y: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Labels `[samples, ...]` from q(y|x), log q(y|x) `[..., C]`, each by itself; all on the CPU."""
    ends = log_q_y.double().exp().cumsum(-1)
    uniform = torch.rand(samples, *ends.shape[:-1], 1, generator=generator, dtype=torch.float64)
    return (uniform * ends[..., -1:] >= ends[..., :-1]).sum(-1)


def _systematic(log_q_y: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Labels `[samples]` from q(y|x), in an order in which they are exchangeable; all on the CPU.

    They come from systematic sampling: one uniform number sets all of them, each is y with probability q(y|x), and
    each class has its share to within one sample. The mean of the weights is therefore unbiased, with less variance
    than from independent labels.
    """
    shares = log_q_y.double().exp()
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    ends = (shares.cumsum(0) / shares.sum() * samples - start).ceil().clamp(0, samples).long()
    ends[-1] = samples
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    order = torch.randperm(samples, generator=generator)
    return torch.arange(len(shares)).repeat_interleave(counts)[order]
