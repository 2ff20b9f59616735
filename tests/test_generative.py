"""What a generative model may lack, and what is then estimated in its place."""

import math

import pytest
import torch
from oracles import BernoulliDecoder, LinearGaussian
from scipy import integrate
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    ExpTransform,
    Independent,
    Laplace,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    kl_divergence,
)

from aebench.evaluation.diagnostics import rate_per_dimension
from aebench.evaluation.marginal import Marginal
from aebench.models.generative import GenerativeModel, Posterior, Prior, divergence, rows, rsample_and_log_prob
from aebench.models.labels import class_log_posterior, rate, sample_prior
from aebench.models.latents import UnitNormalMixture, diagonal_normal, unit_normal
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.models.objectives import importance_weighted_loss, variational_loss
from aebench.randomness import drawing_from, generator

GREY = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1], [1.3, 0.2, -0.8, 0.0, 0.9]], dtype=torch.float64)


def normal(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator(name))


class OwnSamplesOnly:
    """A distribution that scores what it draws and nothing else, as an inverse autoregressive flow does."""

    def __init__(self, q: Distribution) -> None:
        self._q = q

    def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        z = self._q.rsample(shape)
        return z, self._q.log_prob(z)

    def __getitem__(self, index: Tensor | slice) -> "OwnSamplesOnly":
        found = rows(self._q, index)
        assert isinstance(found, Distribution)
        return OwnSamplesOnly(found)


class Flow(LinearGaussian):
    """The exact answers of a linear-Gaussian model, through a posterior that scores its own samples alone."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        right = self.exact_posterior(x)
        return OwnSamplesOnly(MultivariateNormal(right.mean + 0.1, 1.2 * right.covariance_matrix))


class TwoLevels(GenerativeModel):
    """p(z₂) p(z₁|z₂) p(x|z₁, z₂), all Gaussian, as one vector z = (z₁, z₂): its log p(x) is known."""

    conditional_parts: frozenset[str] = frozenset()

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(1)
        self.across = torch.randn(2, 2, generator=random, dtype=torch.float64)  # z₁ = across z₂ + noise
        self.weights = torch.randn(4, 5, generator=random, dtype=torch.float64)
        self.log_sigma = torch.tensor(-0.3, dtype=torch.float64)

    def covariance(self) -> Tensor:
        """Of z: those of z₁, z₂ and between them."""
        unit = torch.eye(2, dtype=torch.float64)
        a = self.across
        return torch.cat([torch.cat([a @ a.T + unit, a], 1), torch.cat([a.T, unit], 1)])

    def log_likelihood(self, x: Tensor) -> Tensor:
        unit = torch.eye(5, dtype=torch.float64)
        covariance = self.weights.T @ self.covariance() @ self.weights + torch.exp(2 * self.log_sigma) * unit
        return MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance).log_prob(x)

    def prior(self, y: Tensor | None = None) -> Prior:
        return _LevelsPrior(self.across)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        precision = torch.linalg.inv(self.covariance()) + self.weights @ self.weights.T / torch.exp(2 * self.log_sigma)
        covariance = torch.linalg.inv(precision)
        mean = x @ self.weights.T @ covariance / torch.exp(2 * self.log_sigma)
        return _LevelsPosterior(mean, covariance)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        return Gaussian(z @ self.weights, self.log_sigma)


class _LevelsPrior:
    def __init__(self, across: Tensor) -> None:
        self.across = across

    def log_prob(self, z: Tensor) -> Tensor:
        lower, upper = z.chunk(2, -1)
        of_upper = Normal(0.0, 1.0).log_prob(upper).sum(-1)
        return of_upper + Normal(upper @ self.across.T, 1.0).log_prob(lower).sum(-1)

    def sample(self, shape: torch.Size) -> Tensor:
        upper = torch.randn(*shape, 2, dtype=torch.float64)
        return torch.cat([upper @ self.across.T + torch.randn(*shape, 2, dtype=torch.float64), upper], -1)


class _LevelsPosterior:
    """q(z₂|x) q(z₁|z₂, x), the exact one, drawn level by level."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        lower, upper = slice(0, 2), slice(2, 4)
        self.mean, gain = mean, covariance[lower, upper] @ torch.linalg.inv(covariance[upper, upper])
        self.gain = gain
        self.upper = MultivariateNormal(mean[:, upper], covariance[upper, upper])
        self.rest = covariance[lower, lower] - gain @ covariance[upper, lower]

    def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        upper = self.upper.rsample(shape)
        lower = MultivariateNormal(self.mean[:, :2] + (upper - self.mean[:, 2:]) @ self.gain.T, self.rest)
        drawn = lower.rsample()
        return torch.cat([drawn, upper], -1), self.upper.log_prob(upper) + lower.log_prob(drawn)


def test_a_posterior_that_scores_its_own_samples_alone_is_enough() -> None:
    model = Flow()
    marginal, exact = Marginal(model), torch.tensor([model.log_likelihood(x[None]) for x in GREY]).double()
    proposal = marginal.amortised(GREY)
    found = marginal.estimate(GREY, 100_000, generator("noise"))
    torch.testing.assert_close(found.marginal.iw_log_likelihood, exact, atol=5e-3, rtol=0)
    # ELBO = log p(x) − KL(q‖p(z|x)), with the rate from the same samples.
    q, right = proposal.given()._q, model.exact_posterior(GREY)  # type: ignore[union-attr]
    bound = -found.marginal.distortion - marginal.rate(proposal, found)
    torch.testing.assert_close(bound, exact - kl_divergence(q, right), atol=0.02, rtol=0)
    assert rate_per_dimension(model, GREY) is None


def test_two_levels_are_one_vector() -> None:
    model = TwoLevels()
    marginal, exact = Marginal(model), model.log_likelihood(GREY)
    proposal = marginal.amortised(GREY)
    found = marginal.estimate(GREY, 7, generator("noise"))
    torch.testing.assert_close(found.marginal.iw_log_likelihood, exact)
    torch.testing.assert_close(-found.marginal.distortion - marginal.rate(proposal, found), exact)
    with drawing_from(generator("prior")):
        z = model.prior().sample(torch.Size((200_000,)))
    torch.testing.assert_close(z.T.cov(), model.covariance(), atol=0.05, rtol=0.02)


class CountedPrior(BernoulliDecoder):
    """A prior that is dear to make."""

    made = 0

    def prior(self, y: Tensor | None = None) -> Prior:
        self.made += 1
        return super().prior(y)


def test_a_prior_is_made_once_for_an_evaluation() -> None:
    model = CountedPrior(2)
    marginal = Marginal(model)
    for place, x in enumerate(torch.eye(6).split(1)):
        proposal = marginal.amortised(x)
        marginal.rate(proposal, marginal.estimate(x, 1500, generator("noise", place)))
    assert model.made == 1


def test_the_divergence_is_in_closed_form_where_torch_knows_one() -> None:
    q = diagonal_normal(normal("q", (4, 2)), normal("v", (4, 2)))
    prior = unit_normal(torch.zeros(2))

    def never() -> Tensor:
        raise AssertionError

    torch.testing.assert_close(divergence(q, prior, never), kl_divergence(q, prior))


def test_else_it_is_estimated_from_samples() -> None:
    """Of a mixture there is no closed form: against quadrature."""
    q = diagonal_normal(torch.tensor([[0.3]]), torch.tensor([[-0.5]]))
    means, log_weights = torch.tensor([[-2.0], [1.0]]), torch.tensor([0.4, 0.6]).log()
    p = UnitNormalMixture(means, log_weights)
    with pytest.raises(NotImplementedError):
        kl_divergence(q, p)

    def integrand(z: float) -> float:
        point = torch.tensor([[z]])
        log_q, log_p = q.log_prob(point).item(), p.log_prob(point).item()
        return math.exp(log_q) * (log_q - log_p)

    with drawing_from(generator("noise")):
        z, log_q = rsample_and_log_prob(q, (200_000,))
    expected = integrate.quad(integrand, -12, 12)[0]
    assert divergence(q, p, lambda: p.log_prob(z) - log_q).item() == pytest.approx(expected, abs=0.01)


class ByClass(BernoulliDecoder):
    """A label that moves the prior alone."""

    conditional_parts = frozenset({"prior"})

    def __init__(self, means: Tensor, log_class_shares: Tensor) -> None:
        super().__init__(means.shape[-1])
        self.means, self.log_class_shares = means, log_class_shares

    def prior(self, y: Tensor | None = None) -> Distribution:
        return UnitNormalMixture(self.means, self.log_class_shares) if y is None else unit_normal(self.means[y])


def never() -> Tensor:
    raise AssertionError


def test_the_rate_without_the_label_is_of_the_joint_with_the_best_class_posterior() -> None:
    model = ByClass(normal("means", (3, 2)), torch.tensor([0.2, 0.3, 0.5]).log())
    q = diagonal_normal(normal("q", (4, 2)), normal("v", (4, 2)))
    found = rate(model, q, never)
    each = torch.stack([kl_divergence(q, unit_normal(mean)) for mean in model.means], dim=-1)  # [B, C]
    q_y = torch.softmax(model.log_class_shares - each, dim=-1)
    torch.testing.assert_close(found, (q_y * (each + q_y.log() - model.log_class_shares)).sum(-1))
    # No other q(y|x) does better.
    other = torch.softmax(normal("other", (4, 3)), dim=-1)
    assert (found <= (other * (each + other.log() - model.log_class_shares)).sum(-1)).all()
    torch.testing.assert_close(rate(model, q, never, torch.tensor([2, 0, 1, 1])), each[range(4), [2, 0, 1, 1]])


def test_it_bounds_the_divergence_of_z_alone() -> None:
    model = ByClass(torch.tensor([[-2.0], [1.0]]), torch.tensor([0.4, 0.6]).log())
    q = diagonal_normal(torch.tensor([[0.3]]), torch.tensor([[-0.5]]))
    p = model.prior()

    def integrand(z: float) -> float:
        point = torch.tensor([[z]])
        log_q, log_p = q.log_prob(point).item(), p.log_prob(point).item()
        return math.exp(log_q) * (log_q - log_p)

    assert 0 <= integrate.quad(integrand, -12, 12)[0] <= rate(model, q, never).item() + 1e-6


def test_with_one_class_it_is_the_plain_divergence() -> None:
    q = diagonal_normal(normal("q", (4, 2)), normal("v", (4, 2)))
    model = ByClass(normal("mean", (1, 2)), torch.zeros(1))
    torch.testing.assert_close(rate(model, q, never), kl_divergence(q, unit_normal(model.means[0])))


class Scattered(ByClass):
    """The same, with a posterior that depends on the image."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        return diagonal_normal(0.3 * x[..., :2] - 0.3 * x[..., 2:4], 0.5 + 0.3 * x[..., 4:6])


class ScatteredFlow(Scattered):
    """Its posterior as a flow."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        q = super().posterior(x, y)
        assert isinstance(q, Distribution)
        return OwnSamplesOnly(q)


class EverywhereFlow(ScatteredFlow):
    """A label that enters the posterior and the likelihood, and does not change them."""

    conditional_parts = frozenset({"posterior", "likelihood"})
    made = 0

    def prior(self, y: Tensor | None = None) -> Distribution:
        self.made += 1
        return unit_normal(torch.zeros(2))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        assert y is not None
        return super().likelihood(z * (1 + 0.3 * y.unsqueeze(-1)))


MEANS, SHARES = torch.tensor([[-2.0, 0.0], [1.0, 0.5]]), torch.tensor([0.4, 0.6]).log()
IMAGES = torch.eye(6).repeat(8, 1)[:45]


def test_a_label_that_moves_the_prior_goes_with_a_posterior_without_closed_form() -> None:
    """The rate is the same as in closed form, but for the samples."""
    plain, model, x = Scattered(MEANS, SHARES), ScatteredFlow(MEANS, SHARES), IMAGES[:1]
    found = []
    for each in (plain, model):
        marginal = Marginal(each)
        proposal = marginal.amortised(x)
        estimated = marginal.estimate(x, 100_000, generator("noise"), label=torch.tensor([1]))
        of_label = marginal.rate_given_label(proposal, estimated, torch.tensor([1]))
        found.append([marginal.rate(proposal, estimated).item(), of_label.item()])
    assert found[1] == pytest.approx(found[0], abs=0.02)


@pytest.mark.parametrize(
    "model", [ScatteredFlow(MEANS, SHARES), EverywhereFlow(MEANS, SHARES)], ids=["prior", "likelihood"]
)
def test_what_is_said_of_a_label_depends_on_the_image_alone(model: GenerativeModel) -> None:
    together = class_log_posterior(model, IMAGES)
    alone = torch.cat([class_log_posterior(model, x) for x in IMAGES.split(1)])
    torch.testing.assert_close(together, alone)
    marginal = Marginal(model)
    of_group = marginal.estimate(IMAGES[:5], 4000, generator("group")).marginal.iw_log_likelihood
    of_each = [marginal.estimate(x, 4000, generator("each", i)).marginal for i, x in enumerate(IMAGES[:5].split(1))]
    torch.testing.assert_close(of_group, torch.cat([each.iw_log_likelihood for each in of_each]), atol=0.1, rtol=0)


def test_a_prior_that_takes_no_label_is_made_once_too() -> None:
    model = EverywhereFlow(MEANS, SHARES)
    marginal = Marginal(model)
    for place, x in enumerate(IMAGES[:5].split(1)):
        proposal = marginal.amortised(x)
        label = torch.tensor([1])
        found = marginal.estimate(x, 1500, generator("noise", place), proposal=proposal, label=label)
        marginal.rate(proposal, found)
        marginal.rate_given_label(proposal, found, label)
    assert model.made == 1
    with drawing_from(generator("prior")):
        assert sample_prior(model, 10, torch.arange(3)).shape == (10, 3, 2)


@pytest.mark.parametrize("kind", [Laplace, LogNormal])
def test_the_pilot_of_no_gaussian_consists_of_its_own_samples(kind: type[Distribution]) -> None:
    class Other(Scattered):
        def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
            return Independent(kind(x[..., :2], 0.5 + x[..., 2:4]), 1)  # type: ignore[call-arg]

    model = Other(MEANS, SHARES)
    found = class_log_posterior(model, IMAGES[:4])
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(4))


def test_a_torch_flow_that_takes_a_label_is_asked_to_be_indexable() -> None:
    flow = TransformedDistribution(diagonal_normal(torch.zeros(3, 2), torch.zeros(3, 2)), [ExpTransform()])
    with pytest.raises(TypeError, match="must be indexable: TransformedDistribution has no __getitem__"):
        rows(flow, slice(0, 1))


@pytest.mark.parametrize("prior", ["mixture", "unit"])
def test_losses_take_a_posterior_and_a_prior_without_closed_form(prior: str) -> None:
    """Its sample's density is handed over; the mean of many losses is the ELBO's negative."""
    model, x = BernoulliDecoder(2), torch.eye(6)[:1].expand(50_000, -1)
    q = model.posterior(x)
    assert isinstance(q, Distribution)
    p: Prior = unit_normal(torch.zeros(2))
    if prior == "mixture":
        component = Independent(Normal(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), 1.0), 1)
        p = MixtureSameFamily(Categorical(torch.tensor([0.5, 0.5])), component)
    flow = OwnSamplesOnly(q)
    with drawing_from(generator("noise")):
        z, log_q = rsample_and_log_prob(flow)
    found = variational_loss(flow, p, model.likelihood, x, z, log_q, beta=2.0)
    by_hand = (log_q - p.log_prob(z)).mean()
    torch.testing.assert_close(found["rate_nats"].mean(), by_hand)
    torch.testing.assert_close(found["loss"], found["distortion_nats"] + 2 * found["rate_nats"])
    weighted = importance_weighted_loss(flow, p, model.likelihood, x, z[None], log_q[None])
    torch.testing.assert_close(weighted["loss"], found["distortion_nats"] + found["rate_nats"])
    with pytest.raises(TypeError, match="log_q is needed: OwnSamplesOnly tells no density of a given z"):
        variational_loss(flow, p, model.likelihood, x, z)
