import math

import numpy as np
import pytest
import torch
from arviz_stats.base.array import array_stats
from conftest import tiny
from scipy import stats
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from aebench.evaluation.diagnostics import (
    FEWEST_SAMPLES,
    effective_sample_size,
    k_curve,
    k_values,
    pareto_k,
    pareto_k_limit,
    rate_per_dimension,
)
from aebench.evaluation.marginal import Marginal
from aebench.models.labels import class_log_posterior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import unit_normal
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.randomness import drawing_from, generator

B, L, C = 6, 3, 10


def normal(*key: int | str, samples: int) -> Tensor:
    return torch.randn(samples, generator=generator(*key), dtype=torch.float64)


def test_the_effective_sample_size_by_hand() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    assert effective_sample_size(weights.log()) == pytest.approx(6.5**2 / (1 + 4 + 9 + 0.25))


@pytest.mark.parametrize("constant", [0.0, -5000.0, 5000.0])
def test_the_effective_sample_size_lies_between_one_and_k_whatever_the_scale(constant: float) -> None:
    equal, one = torch.zeros(50, dtype=torch.float64), torch.full((50,), -800.0, dtype=torch.float64)
    one[7] = 0
    some = 2 * normal("weights", samples=50)
    assert effective_sample_size(constant + equal) == pytest.approx(50)
    assert effective_sample_size(constant + one) == pytest.approx(1)
    assert effective_sample_size(constant + some) == pytest.approx(effective_sample_size(some))
    assert 1 < effective_sample_size(some) < 50


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("tail", [stats.genpareto, stats.pareto])
def test_pareto_k_is_the_shape_of_the_tail(shape: float, tail: stats.rv_continuous) -> None:
    random = np.random.default_rng(0)
    drawn = tail.rvs(shape if tail is stats.genpareto else 1 / shape, size=(8, 20_000), random_state=random)
    found = [pareto_k(torch.from_numpy(np.log(weights))) for weights in drawn]
    assert np.mean(found) == pytest.approx(shape, abs=0.06)
    assert found == pytest.approx([shape] * 8, abs=0.2)


def test_pareto_k_is_that_of_arviz() -> None:
    for samples in (FEWEST_SAMPLES, 200, 3001):
        log_weights = 1.5 * normal("weights", samples=samples) - 700
        _, expected = array_stats.psislw(-log_weights.numpy())
        assert pareto_k(log_weights) == pytest.approx(float(expected), abs=6e-7)


def test_pareto_k_does_not_depend_on_the_scale_or_order_and_leaves_the_weights_alone() -> None:
    log_weights = 2 * normal("weights", samples=500)
    before = log_weights.clone()
    assert pareto_k(log_weights - 12_345) == pytest.approx(pareto_k(log_weights), abs=1.1e-6)
    assert pareto_k(log_weights.flip(0)) == pytest.approx(pareto_k(log_weights), abs=1.1e-6)
    assert torch.equal(log_weights, before)


@pytest.mark.parametrize("constant", [0.0, -91.3])
def test_equal_weights_have_no_tail(constant: float) -> None:
    assert pareto_k(torch.full((100,), constant, dtype=torch.float64)) == -math.inf


def test_a_tail_that_cannot_be_fitted_is_unreliable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(array_stats), "pareto_khat", lambda *_, **__: np.float64("nan"))
    assert pareto_k(normal("weights", samples=100)) == math.inf


def test_heavier_tails_have_a_larger_k() -> None:
    noise = normal("weights", samples=1000)
    found = [pareto_k(spread * noise) for spread in (0.1, 1.0, 3.0, 30.0, 100.0)]
    assert found == sorted(found)
    assert found[1] < pareto_k_limit(1000) < found[2]


@pytest.mark.parametrize("samples", [50, 100, 1000])
@pytest.mark.parametrize("largest", [1, 3, 30])
def test_a_huge_spread_still_gives_a_number(samples: int, largest: int) -> None:
    log_weights = torch.full((samples,), -800.0, dtype=torch.float64)
    log_weights[:largest] = 0
    for noise in (0, 1e-3 * normal("noise", samples=samples)):
        assert not math.isnan(pareto_k(log_weights + noise))


def test_one_weight_that_dwarfs_all_others_is_unreliable() -> None:
    log_weights = -1000 + normal("weights", samples=1000)
    log_weights[0] = 0
    assert pareto_k(log_weights / 2) > pareto_k_limit(1000)  # 500 nats
    assert pareto_k(log_weights) > pareto_k_limit(1000)


def test_a_tail_of_equal_weights_is_no_error() -> None:
    log_weights = torch.tensor([0.0] * 5 + [-1.0] * 20, dtype=torch.float64)
    assert not math.isnan(pareto_k(log_weights))


def test_the_limit_of_pareto_k_is_stricter_for_few_samples() -> None:
    found = [pareto_k_limit(samples) for samples in (100, 1000, 10**5)]
    assert found == pytest.approx([0.5, 2 / 3, 0.7])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (1, [1]),
        (7, [1, 7]),
        (10, [1, 10]),
        (11, [1, 10, 11]),
        (960, [1, 10, 100, 960]),
        (1000, [1, 10, 100, 1000]),
        (10**6, [1, 10, 100, 1000, 10**4, 10**5, 10**6]),
    ],
)
def test_the_curve_is_drawn_at_powers_of_ten_and_k(samples: int, expected: list[int]) -> None:
    assert k_values(samples) == expected


@pytest.mark.parametrize("samples", [1, 7, 25, 110])
def test_the_k_curve_is_the_mean_over_all_disjoint_blocks(samples: int) -> None:
    """Summed over images."""
    weights = np.random.default_rng(0).lognormal(-3, 2, (samples, 3))
    expected = []
    for size in k_values(samples):
        starts = range(0, samples - size + 1, size)
        of_blocks = [np.log(weights[start : start + size].sum(0) / size) for start in starts]
        expected.append(np.mean(of_blocks, axis=0).sum())
    found = k_curve(torch.from_numpy(np.log(weights))).numpy()
    assert found == pytest.approx(expected)
    assert found[0] == pytest.approx(np.log(weights).mean(0).sum())
    assert found[-1] == pytest.approx(np.log(weights.mean(0)).sum())


def test_only_samples_that_fill_no_block_are_left_out() -> None:
    log_weights = normal("weights", samples=25)
    changed = log_weights.clone()
    changed[20:] += 1  # beyond the two blocks of ten
    difference = (k_curve(changed[:, None]) - k_curve(log_weights[:, None])).numpy()
    assert k_values(25) == [1, 10, 25]
    assert difference[0] == pytest.approx(5 / 25)
    assert difference[1] == 0
    assert difference[2] > 0
    changed = log_weights.clone()
    changed[19] += 1
    assert ((k_curve(changed[:, None]) - k_curve(log_weights[:, None])).numpy() > 0).all()


def latent_model(kind: str, **settings: object) -> LatentVariableModel:
    """Away from special values, e.g. class means that start at zero."""
    model = tiny(kind, classes=C, **settings)
    assert isinstance(model, LatentVariableModel)
    with drawing_from(generator("noise")):
        for weight in model.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
    return model


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, 64, generator=generator("x"))


def test_the_rate_of_a_vae_falls_into_that_of_its_dimensions(x: Tensor) -> None:
    model = latent_model("vae")
    found = rate_per_dimension(model, x)
    assert found is not None
    assert found.shape == (B, L)
    assert not found.requires_grad
    q = model.posterior(x)
    torch.testing.assert_close(found, 0.5 * (q.mean**2 + q.variance - q.variance.log() - 1).detach())
    torch.testing.assert_close(found.sum(-1), kl_divergence(q, model.prior()).detach())


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_with_labels_it_is_the_mean_over_classes(conditioning: str, x: Tensor) -> None:
    model = latent_model("cvae", conditioning=conditioning)
    found = rate_per_dimension(model, x)
    log_q_y = class_log_posterior(model, x)
    expected = torch.zeros(B, L)
    for image in range(B):
        for label in range(C):
            y = torch.tensor([label])
            q = model.posterior(x[image : image + 1], y)
            mean, variance = q.mean[0] - model.prior(y).mean[0], q.variance[0]  # type: ignore[attr-defined]
            expected[image] += log_q_y[image, label].exp() * 0.5 * (mean**2 + variance - variance.log() - 1)
    assert found is not None
    assert found.shape == (B, L)
    torch.testing.assert_close(found, expected)
    # What the rate has beyond the sum is the label's own KL(q(y|x) ‖ p(y)).
    of_the_label = (log_q_y.exp() * (log_q_y - model.log_class_shares)).sum(-1)
    for image in range(B):
        marginal, of_image = Marginal(model), x[image : image + 1]
        estimated = marginal.estimate(of_image, 100, generator("noise"))
        whole = marginal.rate(marginal.amortised(of_image), estimated).item()
        assert (found[image].sum() + of_the_label[image]).item() == pytest.approx(whole, rel=1e-4)
    assert log_q_y.exp().max() < 0.99  # more than one class matters


class Correlated:
    """A model whose q(z|x) does not fall into dimensions."""

    conditional_parts: frozenset[str] = frozenset()

    def prior(self, y: Tensor | None = None) -> Distribution:
        return unit_normal(torch.zeros(2))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> MultivariateNormal:
        return MultivariateNormal(torch.zeros(len(x), 2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))


class CorrelatedGivenLabel(Correlated):
    conditional_parts = frozenset({"posterior"})
    log_class_shares = torch.tensor([0.5, 0.5]).log()

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        return Gaussian(torch.zeros(64), torch.tensor(0.0))


@pytest.mark.parametrize("model", [Correlated(), CorrelatedGivenLabel()])
def test_a_rate_that_does_not_fall_into_dimensions_has_no_shares(model: Correlated, x: Tensor) -> None:
    assert rate_per_dimension(model, x) is None  # type: ignore[arg-type]
