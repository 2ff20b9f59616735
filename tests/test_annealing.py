"""Annealed importance sampling against exact answers."""

import math
from collections.abc import Callable

import pytest
import torch
from oracles import BernoulliDecoder, LinearGaussian
from test_generative import Flow
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, TanhTransform
from torch.distributions.transformed_distribution import TransformedDistribution

from aebench.errors import ConfigError
from aebench.evaluation import annealing
from aebench.evaluation.annealing import Annealed, annealed, schedule, standard_error
from aebench.evaluation.marginal import BatchedProposal, Marginal
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.latents import UnitNormalMixture
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.models.objectives import importance_weighted_bound
from aebench.randomness import generator

GREY = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1], [1.3, 0.2, -0.8, 0.0, 0.9]], dtype=torch.float64)
Q = Callable[[Tensor], Distribution]


def bad(x: Tensor) -> Distribution:
    """The posterior moved by two standard deviations, narrowed to half of them, without its correlations."""
    right = LinearGaussian().exact_posterior(x)
    return Independent(Normal(right.mean + 2 * right.stddev, 0.5 * right.stddev), 1)


def moved(x: Tensor) -> Distribution:
    """The posterior moved by half a standard deviation."""
    right = LinearGaussian().exact_posterior(x)
    return MultivariateNormal(right.mean + 0.5 * right.stddev, right.covariance_matrix)


def exact(x: Tensor) -> Tensor:
    return torch.tensor([LinearGaussian().log_likelihood(image) for image in x.split(1)], dtype=torch.float64)


def anneal(model: GenerativeModel, x: Tensor, seed: int = 0, **settings: int) -> Annealed:
    return annealed(model, x, Marginal(model).amortised(x), seed, **{"temperatures": 100, **settings})


def deviations(found: Annealed, expected: Tensor) -> Tensor:
    """How far off the estimates are, in standard errors of their own."""
    return (importance_weighted_bound(found.log_weights) - expected) / standard_error(found.log_weights)


@pytest.mark.parametrize("q", [bad, moved])
def test_it_finds_the_log_likelihood_within_its_error(q: Q) -> None:
    found = anneal(LinearGaussian(q), GREY, chains=200)
    assert found.log_weights.shape == (200, 2)
    assert (standard_error(found.log_weights) < 0.1).all()
    assert (deviations(found, exact(GREY)).abs() < 4).all()


def test_where_importance_sampling_with_as_many_evaluations_does_not() -> None:
    evaluations = 200 * annealing.LEAPFROG_STEPS * 100
    found = Marginal(LinearGaussian(bad)).estimate(GREY, evaluations, generator("samples")).marginal
    assert (found.iw_log_likelihood < exact(GREY) - 0.3).all()


def test_its_standard_error_is_that_of_repeated_estimates() -> None:
    x = GREY[:1].repeat(100, 1)
    found = anneal(LinearGaussian(moved), x, temperatures=10)
    assert deviations(found, exact(x)).std().item() == pytest.approx(1, abs=0.3)


def of_many_chains(temperatures: int) -> Annealed:
    return anneal(LinearGaussian(moved), GREY, chains=10_000, temperatures=temperatures)


@pytest.fixture
def coarse_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Much then depends on which are accepted."""
    monkeypatch.setattr(annealing, "ACCEPTANCE", 0.5)


@pytest.mark.usefixtures("coarse_steps")
@pytest.mark.parametrize("temperatures", [1, 2, 5])
def test_the_mean_weight_is_the_likelihood_however_few_the_temperatures(temperatures: int) -> None:
    found = of_many_chains(temperatures)
    assert (standard_error(found.log_weights) < 0.01).all()
    assert (deviations(found, exact(GREY)).abs() < 4).all()


@pytest.mark.usefixtures("coarse_steps")
@pytest.mark.parametrize(
    "broken",
    [lambda log_ratio, uniform: uniform < 2, lambda log_ratio, uniform: uniform.log() < -log_ratio],
    ids=["always", "inverted"],
)
def test_a_broken_acceptance_would_be_noticed(
    broken: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annealing, "_accepted", broken)
    assert (deviations(of_many_chains(5), exact(GREY)).abs() > 6).all()


def test_with_one_temperature_it_is_importance_sampling() -> None:
    """Against weights by hand, of the same samples: those of each image's own generator."""
    model = LinearGaussian(moved)
    found = anneal(model, GREY, seed=3, chains=64, temperatures=1)
    for image, x in enumerate(GREY.split(1)):
        by_hand = Marginal(model).estimate(x, 64, generator(3, "annealing", image)).marginal
        torch.testing.assert_close(found.log_weights[:, image], by_hand.log_weights[:, 0])
    assert found.acceptance.isnan().all()


def test_with_the_exact_posterior_every_chain_has_the_same_weight() -> None:
    found = anneal(LinearGaussian(), GREY, temperatures=10)
    torch.testing.assert_close(found.log_weights, exact(GREY).expand(16, -1))


@pytest.mark.parametrize("latents", [1, 2])
def test_a_bernoulli_decoder_against_quadrature(latents: int) -> None:
    model, x = BernoulliDecoder(latents), torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    found = anneal(model, x, chains=1000, temperatures=20)
    assert standard_error(found.log_weights).item() < 0.02
    assert abs(deviations(found, torch.tensor([model.log_likelihood(x)])).item()) < 4


SHARES = torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64).log()
MEANS = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5], [-2.0, 0.0, 1.0]], dtype=torch.float64)
OFFSETS = torch.tensor([[0.0], [0.4], [-0.6]], dtype=torch.float64)


class Labelled(LinearGaussian):
    """z|y ~ N(mean_y, I), and where the likelihood takes a label too x|z, y ~ N(W z + b + offset_y, σ² I)."""

    log_class_shares = SHARES

    def __init__(self, *conditional_parts: str) -> None:
        super().__init__(moved)
        self.conditional_parts = frozenset(conditional_parts)

    def prior(self, y: Tensor | None = None) -> Prior:
        if "prior" not in self.conditional_parts:
            return super().prior()
        if y is None:
            return UnitNormalMixture(MEANS, SHARES)
        return MultivariateNormal(MEANS[y], torch.eye(3, dtype=torch.float64))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return super().posterior(x if y is None else x - OFFSETS[y])

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        given = super().likelihood(z)
        return (
            given if "likelihood" not in self.conditional_parts else Gaussian(given.mean + OFFSETS[y], self.log_sigma)
        )

    def log_likelihood_by_label(self, x: Tensor) -> Tensor:
        """log Σ_y p(y) N(x; W mean_y + b + offset_y, WWᵀ + σ² I), `[B]`."""
        moves_z, moves_x = ("prior" in self.conditional_parts), ("likelihood" in self.conditional_parts)
        means = self.offset + moves_z * (MEANS @ self.weights.T) + moves_x * OFFSETS
        covariance = self.weights @ self.weights.T + self.variance * torch.eye(5, dtype=torch.float64)
        return torch.logsumexp(SHARES + MultivariateNormal(means, covariance).log_prob(x[:, None]), dim=-1)


@pytest.mark.parametrize(
    "parts", [["prior"], ["posterior", "likelihood"], ["prior", "posterior", "likelihood"]], ids=" ".join
)
def test_a_label_is_summed_out(parts: list[str]) -> None:
    model = Labelled(*parts)
    found = anneal(model, GREY, temperatures=30)
    assert (standard_error(found.log_weights) < 0.1).all()
    assert (deviations(found, model.log_likelihood_by_label(GREY)).abs() < 4).all()


@pytest.mark.parametrize("model", [LinearGaussian(bad), Labelled("posterior", "likelihood")], ids=["", "labels"])
def test_an_image_is_annealed_without_a_look_at_those_beside_it(
    model: GenerativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.cat([GREY, GREY + 0.1])
    together = anneal(model, x, chains=8, temperatures=5)
    alone = anneal(model, x[3:], chains=8, temperatures=5, first=3)
    torch.testing.assert_close(together.log_weights[:, 3:], alone.log_weights)
    torch.testing.assert_close(together.acceptance[3:], alone.acceptance)
    monkeypatch.setattr(annealing, "POINTS", 48)  # three images, or one with its classes, at a time
    in_groups = anneal(model, x, chains=8, temperatures=5)
    torch.testing.assert_close(in_groups.log_weights, together.log_weights)


def test_images_and_seeds_have_random_numbers_of_their_own() -> None:
    model, x = LinearGaussian(moved), GREY[:1].repeat(2, 1)
    found = anneal(model, x, temperatures=5).log_weights
    other = anneal(model, x, seed=1, temperatures=5).log_weights
    assert len({*found.flatten().tolist(), *other.flatten().tolist()}) == 64


def test_step_sizes_stand_before_the_chains_that_are_weighted_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the same whatever those chains are."""
    used: list[Tensor] = []
    move = annealing._Path.move

    def watched(
        self: "annealing._Path", points: "annealing._Points", beta: float, size: Tensor, noise: object
    ) -> object:
        used.append(size)
        return move(self, points, beta, size, noise)  # type: ignore[arg-type]

    monkeypatch.setattr(annealing._Path, "move", watched)
    of_some = []
    for chains in (2, 30):
        used.clear()
        found = anneal(LinearGaussian(bad), GREY, chains=chains, temperatures=40)
        of_some.append(torch.stack(used[-39:]))
    assert torch.equal(*of_some)
    assert of_some[0].std() > 0.01
    assert found.acceptance.tolist() == pytest.approx([annealing.ACCEPTANCE] * 2, abs=0.1)


def test_the_temperatures_run_from_the_proposal_to_the_model() -> None:
    assert schedule(1) == [0, 1]
    betas = torch.tensor(schedule(50))
    assert len(betas) == 51
    assert (betas[0], betas[-1]) == (0, 1)
    torch.testing.assert_close(betas + betas.flip(0), torch.ones(51))
    steps = betas.diff()
    assert steps.min() > 0
    assert steps[0] < steps[25] / 5


class Squashed(LinearGaussian):
    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return TransformedDistribution(self.exact_posterior(x), TanhTransform())


@pytest.mark.parametrize(("model", "named"), [(Flow(), "OwnSamplesOnly"), (Squashed(), "TransformedDistribution")])
def test_a_proposal_that_cannot_be_annealed_from_is_refused(model: GenerativeModel, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"annealing: found a {named} for q\(z\|x\), allowed: a torch distribution"):
        annealed(model, GREY[:1], BatchedProposal(model.posterior(GREY[:1])), 0)


def test_one_chain_tells_nothing_of_its_error() -> None:
    assert math.isnan(
        standard_error(anneal(LinearGaussian(moved), GREY[:1], chains=1, temperatures=2).log_weights).item()
    )


def test_the_pilot_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """If step sizes followed the chains that are weighted, the mean of the weights would not be p(x)."""
    begun: list[Tensor] = []
    samples = annealing._Noise.samples

    def spy(self: annealing._Noise, q: Distribution, chains: int) -> Tensor:
        begun.append(samples(self, q, chains))
        return begun[-1]

    monkeypatch.setattr(annealing._Noise, "samples", spy)
    anneal(LinearGaussian(moved), GREY, chains=16, temperatures=3)
    pilot, weighted = begun
    assert pilot.shape == weighted.shape
    assert not torch.isclose(pilot, weighted).any()


def test_every_temperature_has_the_step_size_of_its_part_of_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Tensor] = []
    sizes = torch.arange(annealing.PILOT_TEMPERATURES, dtype=torch.float64)[:, None].expand(-1, len(GREY)) / 100
    move = annealing._Path.move

    def spy(path: annealing._Path, points: object, beta: float, step_size: Tensor, noise: object) -> object:
        used.append(step_size)
        return move(path, points, beta, step_size, noise)  # type: ignore[arg-type]

    monkeypatch.setattr(annealing, "_step_sizes", lambda *_: sizes)
    monkeypatch.setattr(annealing._Path, "move", spy)
    anneal(LinearGaussian(moved), GREY, temperatures=100)
    places = [round(100 * float(size[0])) for size in used]
    assert places == [t // 2 for t in range(1, 100)]
