"""A refined proposal makes a tighter bound, and still a bound."""

import math

import pytest
import torch
from oracles import BernoulliDecoder, LinearGaussian
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from aebench.errors import ConfigError
from aebench.evaluation.marginal import BatchedProposal, Marginal
from aebench.evaluation.proposals.refined import WIDENED, refined
from aebench.randomness import generator

X = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])


def noise(images: int) -> list[torch.Generator]:
    return [generator("refinement", image) for image in range(images)]


@pytest.mark.parametrize("latents", [1, 2])
def test_the_bound_is_tighter_and_remains_one(latents: int) -> None:
    model = BernoulliDecoder(latents)
    marginal, prepared = Marginal(model), BatchedProposal.make(lambda x, _: refined(model, x, noise(len(x))), X)
    for image, x in enumerate(X.split(1)):
        exact = model.log_likelihood(x)

        def mean_bound(refine: bool, samples: int, image: int = image, x: torch.Tensor = x) -> tuple[float, float]:
            proposal = prepared.of(image) if refine else None
            values = torch.tensor(
                [
                    marginal.estimate(x, samples, generator("bound", i), proposal=proposal).marginal.iw_log_likelihood
                    for i in range(800)
                ]
            )
            return values.mean().item(), values.std().item() / math.sqrt(800)

        amortised, _ = mean_bound(False, 2)
        better, error = mean_bound(True, 2)
        assert better < exact + 3 * error
        assert better > amortised
        assert mean_bound(True, 100)[0] == pytest.approx(exact, abs=0.02)


class Diagonal(LinearGaussian):
    """The same model in the terms that a diagonal q needs."""

    def prior(self, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        right = self.exact_posterior(x)
        return Independent(Normal(right.mean + 0.05, right.stddev), 1)


def test_it_finds_the_best_gaussian_and_widens_it() -> None:
    """Of a linear-Gaussian model the best diagonal q has the posterior's mean and the variances 1/precision."""
    model = Diagonal()
    x = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1]], dtype=torch.float64)
    posterior = model.exact_posterior(x)
    found = refined(model, x, noise(1))
    assert (found.mean - posterior.mean).abs().max() < 0.1
    best = 1 / posterior.precision_matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    before, after = posterior.stddev - best, found.stddev / WIDENED - best
    assert (after.abs() < before.abs() + 0.02).all()
    assert after.abs().sum() < before.abs().sum()


def test_an_image_is_refined_without_a_look_at_those_beside_it() -> None:
    model = BernoulliDecoder(2)
    together, alone = refined(model, X, noise(3)), refined(model, X[1:2], noise(3)[1:2])
    torch.testing.assert_close(together.mean[1:2], alone.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.stddev[1:2], alone.stddev, atol=1e-5, rtol=0)


def test_another_kind_of_posterior_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.proposal: found refined .* diagonal covariance, allowed: lap"):
        refined(LinearGaussian(), torch.zeros(1, 5, dtype=torch.float64), noise(1))
