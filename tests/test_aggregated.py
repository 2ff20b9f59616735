"""The aggregated posterior, against closed forms and quadrature."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from oracles import LinearGaussian
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from aebench.evaluation import aggregated
from aebench.evaluation.aggregated import information
from aebench.evaluation.marginal import Budget, Marginal
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.labels import class_log_posterior
from aebench.models.latents import UnitNormalMixture, diagonal_normal, unit_normal
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.randomness import drawing_from, generator

SHARES = torch.tensor([0.3, 0.7]).log()
# Values of the one pixel, each of as many images.
PIXELS, COPIES = (-2.0, -0.3, 0.4, 1.5), 500


class OneLatent(GenerativeModel):
    """One latent and one pixel, two classes where a label enters; q is not the posterior."""

    log_class_shares = SHARES

    def __init__(self, *conditional_parts: str, spread: float = 0.6) -> None:
        self.conditional_parts, self.spread = frozenset(conditional_parts), spread

    def prior(self, y: Tensor | None = None) -> Prior:
        means = torch.tensor([[-1.0], [1.5]])
        if "prior" not in self.conditional_parts:
            return unit_normal(torch.zeros(1))
        return UnitNormalMixture(means, SHARES) if y is None else unit_normal(means[y])

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        mean = 0.7 * x if "posterior" not in self.conditional_parts else 0.7 * x + 0.4 * y[..., None]  # type: ignore[index]
        return diagonal_normal(mean, torch.full_like(mean, 2 * math.log(self.spread)) + 0.2 * mean)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        offset = 0.5 * y[..., None] if "likelihood" in self.conditional_parts else 0.0  # type: ignore[index]
        return Gaussian(z - offset, torch.zeros(()))


def images(pixels: Sequence[float] = PIXELS) -> Tensor:
    return torch.tensor(pixels).repeat_interleave(COPIES)[:, None]


GRID = torch.linspace(-9, 9, 4001)[:, None]


def integral(values: Tensor) -> float:
    return float(np.trapezoid(values.double().numpy(), GRID[:, 0].double().numpy()))


def by_quadrature(model: OneLatent) -> tuple[float, float]:
    """I and KL(q ‖ p) of z, or of (z, y) where a label enters, from q(y|x) and the densities on a grid."""
    x = torch.tensor(PIXELS)[:, None]
    labels = range(2) if model.conditional_parts else [None]
    log_q_y = class_log_posterior(model, x) if model.conditional_parts else torch.zeros(len(x), 1)
    mutual, to_prior = 0.0, 0.0
    for label in labels:
        y = None if label is None else torch.full((len(x),), label)
        of_each = model.posterior(x, y).log_prob(GRID[:, None]) + log_q_y[:, label or 0]  # type: ignore[union-attr]
        of_all = of_each.logsumexp(1) - math.log(len(x))
        prior = model.prior(None if label is None else torch.tensor(label)).log_prob(GRID)
        log_p = prior + (SHARES[label] if label is not None else 0)
        mutual += sum(integral(each.exp() * (each - of_all)) for each in of_each.T) / len(x)
        to_prior += integral(of_all.exp() * (of_all - log_p))
    return mutual, to_prior


@pytest.mark.parametrize("parts", [(), ("prior",), ("posterior", "likelihood"), ("prior", "posterior", "likelihood")])
def test_the_mean_rate_is_information_and_divergence(parts: tuple[str, ...]) -> None:
    """As many copies of a few images have the mixture and the information of the few."""
    model, x = OneLatent(*parts), images()
    mutual, to_prior = by_quadrature(model)
    found = information(model, x.split(1000), generator("test"))
    assert found.shape == (len(x),)
    error = found.std().item() / math.sqrt(len(x))
    assert error < 0.02
    assert found.mean().item() == pytest.approx(mutual, abs=4 * error)
    marginal, few = Marginal(model), torch.tensor(PIXELS)[:, None]
    proposal = marginal.amortised(few)
    rate = marginal.rate(proposal, marginal.estimate(few, Budget(2, 4), generator("rate"), proposal=proposal))
    assert rate.mean().item() == pytest.approx(mutual + to_prior, abs=1e-3)
    assert to_prior > 0.02


class Encoded(LinearGaussian):
    """q(z|x) = N(A x, C), C diagonal or full."""

    def __init__(self, *, diagonal: bool) -> None:
        super().__init__(self.encoded)
        random = torch.Generator().manual_seed(1)
        self.encoder = 0.25 * torch.randn(5, 3, generator=random, dtype=torch.float64)
        self.scale_tril = torch.tensor([0.7, 0.5, 0.9], dtype=torch.float64).diag()
        if not diagonal:
            self.scale_tril[2, 0] = self.scale_tril[1, 0] = 0.4
        self.diagonal = diagonal

    def encoded(self, x: Tensor) -> Distribution:
        mean = (x - self.offset) @ self.encoder
        if self.diagonal:
            return Independent(Normal(mean, self.scale_tril.diagonal().expand_as(mean)), 1)
        return MultivariateNormal(mean, scale_tril=self.scale_tril)


@pytest.mark.parametrize("diagonal", [True, False])
def test_of_many_images_of_a_linear_gaussian_model_both_have_a_closed_form(diagonal: bool) -> None:
    """x ~ N(b, WWᵀ + σ² I), so q(z) = N(0, Aᵀ(WWᵀ + σ² I)A + C) in the limit of many images."""
    model = Encoded(diagonal=diagonal)
    with drawing_from(generator("images")):
        x = model.likelihood(model.prior().sample(torch.Size((1500,)))).sample()
    within = model.scale_tril @ model.scale_tril.T
    of_x = model.weights @ model.weights.T + model.variance * torch.eye(5, dtype=torch.float64)
    of_z = MultivariateNormal(torch.zeros(3, dtype=torch.float64), model.encoder.T @ of_x @ model.encoder + within)
    mutual = 0.5 * (of_z.covariance_matrix.logdet() - within.logdet()).item()
    to_prior = kl_divergence(of_z, model.prior()).item()
    found = information(model, x.split(600), generator("test")).mean().item()
    assert found == pytest.approx(mutual, abs=0.05)
    q = MultivariateNormal(model.encoded(x).mean, scale_tril=model.scale_tril)
    assert kl_divergence(q, model.prior()).mean().item() - found == pytest.approx(to_prior, abs=0.08)
    assert mutual > 0.5
    assert to_prior > 0.1


def test_it_is_none_where_all_images_are_alike_and_log_n_where_none_overlap() -> None:
    assert information(OneLatent(), [torch.zeros(50, 1)], generator("test")).abs().max() < 1e-6
    apart = information(OneLatent(spread=1e-3), [torch.arange(50.0)[:, None]], generator("test"))
    assert apart.numpy() == pytest.approx(math.log(50), abs=1e-3)


@pytest.mark.parametrize("parts", [(), ("posterior", "likelihood")])
def test_it_does_not_depend_on_how_many_pairs_are_held(parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = OneLatent(*parts), images()[::40]
    found = information(model, [x], generator("test"))
    monkeypatch.setattr(aggregated, "HELD", 3 * len(x))
    torch.testing.assert_close(information(model, [x], generator("test")), found)
