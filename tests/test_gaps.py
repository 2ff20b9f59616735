"""The two gaps of inference, where they are known in closed form."""

import pytest
import torch
from oracles import LinearGaussian
from test_annealing import OFFSETS, Labelled
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from aebench.evaluation.gaps import gaps
from aebench.models.generative import Prior

# Of each image so many, each with its own noise.
COPIES = 100
X = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1], [1.3, 0.2, -0.8, 0.0, 0.9]], dtype=torch.float64)


def encoded(model: LinearGaussian, x: Tensor) -> Independent[Normal]:
    """A diagonal q that is not the best one."""
    right = model.exact_posterior(x)
    return Independent(Normal(right.mean + 0.2, 0.8 * right.stddev), 1)


class Diagonal(LinearGaussian):
    def prior(self, y: Tensor | None = None) -> Prior:
        return Independent(Normal(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return encoded(self, x)


class DiagonalOfClass(Labelled):
    """The label enters q and p(x|z): for each class it is `Diagonal`, moved."""

    def __init__(self) -> None:
        super().__init__("posterior", "likelihood")

    def prior(self, y: Tensor | None = None) -> Prior:
        return Diagonal.prior(self, y)  # type: ignore[arg-type]

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return encoded(self, x - OFFSETS[y])


@pytest.mark.parametrize("model", [Diagonal(), DiagonalOfClass()], ids=["without labels", "labels drawn"])
def test_of_a_linear_gaussian_model_both_are_known(model: LinearGaussian) -> None:
    """The best diagonal q has the variances 1/Λ_ii, Λ the posterior's precision (Bishop 2006, §10.1.2).

    Its divergence is ½ (Σ log Λ_ii − log det Λ), whatever the image and the class. Where all classes lack the same, so
    does log Σ_y p(y) exp(ELBO_y).
    """
    posterior = model.exact_posterior(X[:1])
    precision = posterior.precision_matrix[0]
    best = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    q = encoded(model, X[:1])
    whole = kl_divergence(MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.stddev)), posterior).item()
    of_each = gaps(model, X.repeat(COPIES, 1), 0)
    for found, expected in zip(of_each, (best, whole - best), strict=True):
        assert found.shape == (2 * COPIES,)
        assert found.view(COPIES, 2).mean(0).tolist() == pytest.approx([expected] * 2, abs=0.03)
    assert best > 0.3
    assert whole - best > 0.3
