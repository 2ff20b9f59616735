"""Laplace's proposal against posteriors that are known."""

import math
from collections.abc import Iterator

import pytest
import torch
from conftest import tiny
from oracles import BernoulliDecoder, LinearGaussian
from scipy import integrate, optimize
from test_annealing import MEANS, OFFSETS, Labelled
from test_generative import TwoLevels
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from aebench.data.datasets import Splits
from aebench.errors import Diverged
from aebench.evaluation import proposals
from aebench.evaluation.marginal import Marginal, split_budget
from aebench.evaluation.proposals import importance_budget, propose
from aebench.evaluation.proposals.laplace import WIDENED, fit
from aebench.models.generative import GenerativeModel
from aebench.models.likelihoods import likelihoods
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.randomness import generator

GREY = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1], [1.3, 0.2, -0.8, 0.0, 0.9]], dtype=torch.float64)


def unwidened(q: MultivariateNormal) -> Tensor:
    return q.covariance_matrix / WIDENED**2


@pytest.mark.parametrize("far", [0.0, 3.0])
def test_of_a_gaussian_posterior_it_finds_mean_covariance_and_evidence(far: float) -> None:
    model = LinearGaussian()
    exact = model.exact_posterior(GREY)
    found = fit(model, GREY, exact.mean + far)
    torch.testing.assert_close(found.q.mean, exact.mean)
    torch.testing.assert_close(unwidened(found.q), exact.covariance_matrix)
    torch.testing.assert_close(found.covariance, exact.covariance_matrix)
    assert found.log_evidence.tolist() == pytest.approx([model.log_likelihood(x) for x in GREY.split(1)])


def test_latents_of_two_levels_are_one_vector_to_it() -> None:
    model = TwoLevels()
    exact = model.posterior(GREY)
    found = fit(model, GREY, torch.zeros(2, 4, dtype=torch.float64))
    torch.testing.assert_close(found.q.mean, exact.mean)  # type: ignore[union-attr]
    torch.testing.assert_close(found.log_evidence, model.log_likelihood(GREY))


def test_of_a_skewed_posterior_it_has_the_moments_of_a_split_normal() -> None:
    """Those by quadrature of the normal that falls on either side by what log p(x, z) falls by."""
    model, x = BernoulliDecoder(1), torch.tensor([[1.0, 0, 1, 1, 0, 1]])
    mode = optimize.minimize_scalar(lambda z: -model.log_joint(x, z)).x
    found = fit(model, x, torch.zeros(1, 1))
    distance = 2 * math.sqrt(found.covariance.item())
    low, high = (model.log_joint(x, mode) - model.log_joint(x, mode + side * distance) for side in (-1, 1))
    assert low != pytest.approx(high, rel=0.02)  # it is skewed

    def moment(power: int, centre: float) -> float:
        def density(z: float) -> float:
            return math.exp(-(high if z > mode else low) * ((z - mode) / distance) ** 2) * (z - centre) ** power

        return float(integrate.quad(density, mode - 8, mode)[0] + integrate.quad(density, mode, mode + 8)[0])

    mean = mode + moment(1, mode) / moment(0, mode)
    assert found.q.mean.item() == pytest.approx(mean, abs=2e-3)
    assert unwidened(found.q).item() == pytest.approx(moment(2, mean) / moment(0, mean), rel=5e-3)


def test_its_bound_is_tighter_than_that_of_the_encoder_and_none_too_high() -> None:
    model, x = BernoulliDecoder(2), torch.tensor([[1.0, 0, 1, 1, 0, 1]])
    marginal = Marginal(model)
    proposal = propose("laplace", marginal, x, seed=0).marginal
    exact = model.log_likelihood(x)

    def mean(**settings: object) -> float:
        bounds = [
            marginal.estimate(x, 5, generator("bound", i), **settings).marginal.iw_log_likelihood  # type: ignore[arg-type]
            for i in range(2000)
        ]
        return torch.cat(bounds).mean().item()

    amortised, laplace = mean(), mean(proposal=proposal)
    assert amortised < laplace - 0.02
    assert laplace < exact + 0.005
    assert exact - laplace < 0.03


@pytest.mark.parametrize("parts", [["posterior", "likelihood"], ["prior", "posterior", "likelihood"]], ids=" ".join)
def test_with_labels_it_knows_the_classes_too(parts: list[str]) -> None:
    model = Labelled(*parts)
    marginal, label = Marginal(model), torch.tensor([0, 2])
    found = propose("laplace", marginal, GREY, seed=0, label=label)
    assert importance_budget("laplace", 200, marginal.classes) == (0, 200)
    assert importance_budget("amortised", 200, marginal.classes) == split_budget(200, marginal.classes)
    estimate = marginal.estimate(
        GREY, 20_000, generator("noise"), proposal=found.marginal, label=label, given_label=found.given_label
    )
    assert len(estimate.marginal.log_weights) == 20_000
    exact = model.log_likelihood_by_label(GREY)
    torch.testing.assert_close(estimate.marginal.iw_log_likelihood, exact, atol=0.02, rtol=0)
    # Bayes' rule: what the classes have of the marginal.
    log_p_y = exact_log_posterior(model, GREY)
    given = exact + log_p_y.gather(1, label[:, None]).squeeze(1) - model.log_class_shares[label]
    assert estimate.given_label is not None
    torch.testing.assert_close(estimate.given_label.iw_log_likelihood, given, atol=0.02, rtol=0)
    assert found.marginal.log_q_y is not None
    assert ((found.marginal.log_q_y.exp() - log_p_y.exp()).abs() < 0.05).all()


def exact_log_posterior(model: Labelled, x: Tensor) -> Tensor:
    """log p(y|x), `[B, C]`, by Bayes' rule from p(x|y), which is Gaussian."""
    each = []
    for y in range(len(model.log_class_shares)):
        mean = model.offset + ("prior" in model.conditional_parts) * (MEANS[y] @ model.weights.T) + OFFSETS[y]
        covariance = model.weights @ model.weights.T + model.variance * torch.eye(5, dtype=torch.float64)
        each.append(model.log_class_shares[y] + MultivariateNormal(mean, covariance).log_prob(x))
    return torch.stack(each, dim=1).log_softmax(1)


def variants_with_likelihoods() -> Iterator[tuple[str, dict[str, object]]]:
    yield "cvae", {}
    yield "cvae", {"conditioning": "concat"}
    for name, config in likelihoods().items():
        yield "vae", {"likelihood": name, **config.EXAMPLE}


@pytest.mark.parametrize(("kind", "settings"), list(variants_with_likelihoods()))
def test_of_every_likelihood_it_goes_most_of_the_way_to_the_mode(
    kind: str, settings: dict[str, object], digits: Splits
) -> None:
    """As far as its own mean is not moved from there, which a general optimiser finds."""
    model = tiny(kind, **settings).requires_grad_(False)
    assert isinstance(model, GenerativeModel)
    x, y = digits.test.pixels(slice(0, 4)), digits.test.labels[:4] if settings.get("conditioning") else None

    def log_joint(z: Tensor) -> Tensor:
        return model.likelihood(z, y).log_prob(x) + model.prior(None).log_prob(z)

    start = model.encode(x, y)
    found = fit(model, x, start, y).q.mean
    leaf = found.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([leaf], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -log_joint(leaf).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    assert (log_joint(found) >= log_joint(start)).all()
    best = log_joint(leaf.detach())
    assert (best - log_joint(found) < 0.1 + 0.4 * (best - log_joint(start))).all()


def test_the_label_of_an_image_does_not_move_the_marginal(digits: Splits) -> None:
    marginal = Marginal(tiny("cvae", conditioning="concat").requires_grad_(False))  # type: ignore[arg-type]
    x, label = digits.test.pixels(slice(0, 6)), digits.test.labels[:6]
    with_label = propose("laplace", marginal, x, seed=0, label=label).marginal
    with_another = propose("laplace", marginal, x, seed=0, label=(label + 5) % 10).marginal
    assert torch.equal(with_label.q.mean, with_another.q.mean)  # type: ignore[union-attr]
    assert torch.equal(with_label.log_q_y, with_another.log_q_y)  # type: ignore[arg-type]


def test_a_model_that_has_diverged_is_named(digits: Splits) -> None:
    model = tiny("vae").requires_grad_(False)
    for weight in model.decoder.parameters():  # type: ignore[union-attr]
        weight.data *= 1e30
    with pytest.raises(Diverged, match="the decoder's derivative is not finite"):
        propose("laplace", Marginal(model), digits.test.pixels(slice(0, 2)), seed=0)  # type: ignore[arg-type]


def test_a_step_to_where_nothing_is_finite_is_not_taken() -> None:
    means = LinearGaussian().exact_posterior(GREY).mean
    border = means[:, 0].max() + 0.5

    class Steep(LinearGaussian):
        """Its density is not a number from somewhere on the way to the mode."""

        def likelihood(self, z: Tensor, y: Tensor | None = None) -> Gaussian:
            given = super().likelihood(z)
            return Gaussian(torch.where(z[..., :1] < border, torch.nan, given.mean), self.log_sigma)

    found = fit(Steep(), GREY, means + 5.0)
    assert found.q.mean.isfinite().all()
    assert found.log_evidence.isfinite().all()


def test_a_decoder_that_tells_some_latents_nearly_apart_has_a_proposal() -> None:
    """Its information is singular, and large beside the prior's."""

    class Flat(LinearGaussian):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.cat([1e4 * self.weights[:, :1], 1e4 * self.weights[:, :1], self.weights[:, 2:]], 1)

    model = Flat()
    exact = model.exact_posterior(GREY)
    torch.testing.assert_close(unwidened(fit(model, GREY, exact.mean).q), exact.covariance_matrix, rtol=1e-3, atol=1e-6)


def test_it_is_nearer_to_the_posterior_than_one_without_correlations() -> None:
    model = LinearGaussian()
    exact = model.exact_posterior(GREY)
    q = fit(model, GREY, exact.mean).q
    diagonal = MultivariateNormal(exact.mean, torch.diag_embed(exact.variance))
    assert (kl_divergence(MultivariateNormal(q.loc, unwidened(q)), exact) < kl_divergence(diagonal, exact)).all()


def test_of_a_class_that_is_fitted_roughly_the_proposal_is_widened_too() -> None:
    model = LinearGaussian()
    exact = model.exact_posterior(GREY)
    found = fit(model, GREY, exact.mean + 1, covariance=exact.covariance_matrix)
    torch.testing.assert_close(unwidened(found.q), exact.covariance_matrix)
    torch.testing.assert_close(found.q.mean, exact.mean)


def test_no_class_is_left_without_samples() -> None:
    """However unlikely the fit says that it is: the fit may be wrong."""
    log_joint = torch.tensor([[0.0, -20.0, -400.0]], dtype=torch.float64)
    found = proposals._log_shares(log_joint)
    assert found.exp().sum().item() == pytest.approx(1)
    cautious = math.log(proposals.DEFENSIVE) + (proposals.TEMPERED * log_joint).log_softmax(-1)
    assert (found >= cautious - 1e-12).all()
    assert found[0, 1] > -6 - 3
