"""Small models whose likelihood is known by other means than sampling."""

import math
from collections.abc import Callable

import torch
from scipy import integrate
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from aebench.models.generative import GenerativeModel
from aebench.models.latents import diagonal_normal, unit_normal
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.bernoulli import Bernoulli
from aebench.models.likelihoods.gaussian import Gaussian

Q = Callable[[Tensor], Distribution]


class BernoulliDecoder(GenerativeModel):
    """One or two latents, six binary pixels, and a proposal that is not the posterior."""

    conditional_parts: frozenset[str] = frozenset()
    log_class_shares = torch.zeros(1)
    weights = torch.tensor([[1.5, -0.7, 2.0, 0.1, -1.2, 0.8], [-0.4, 1.1, 0.6, -1.9, 0.3, 0.5]])

    def __init__(self, latents: int) -> None:
        self.latents = latents

    def prior(self, y: Tensor | None = None) -> Distribution:
        return unit_normal(torch.zeros(self.latents))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return diagonal_normal(torch.full((len(x), self.latents), 0.4), torch.full((len(x), self.latents), -0.2))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        return Bernoulli(z @ self.weights[: self.latents] + 0.2)

    def log_joint(self, x: Tensor, *z: float) -> float:
        """log p(x|z) p(z), pixel by pixel as the textbook has it."""
        logits = [sum(w[i] * value for w, value in zip(self.weights.tolist(), z, strict=False)) + 0.2 for i in range(6)]
        pixels = [l if on else 0.0 for l, on in zip(logits, x[0].tolist(), strict=True)]  # noqa: E741
        log_px = sum(pixels) - sum(math.log1p(math.exp(l)) for l in logits)  # noqa: E741
        return log_px - sum(value**2 for value in z) / 2 - len(z) / 2 * math.log(2 * math.pi)

    def log_likelihood(self, x: Tensor) -> float:
        """log p(x) by quadrature."""
        if self.latents == 1:
            return math.log(integrate.quad(lambda z: math.exp(self.log_joint(x, z)), -9, 9)[0])
        return math.log(integrate.dblquad(lambda b, a: math.exp(self.log_joint(x, a, b)), -8, 8, -8, 8, epsabs=1e-9)[0])


class LinearGaussian(GenerativeModel):
    """Probabilistic PCA (Tipping & Bishop 1999): z ~ N(0, I), x|z ~ N(W z + b, σ² I), all of it in closed form."""

    conditional_parts: frozenset[str] = frozenset()
    log_class_shares = torch.zeros(1)

    def __init__(self, q: Q | None = None) -> None:
        random = torch.Generator().manual_seed(0)
        self.weights = torch.randn(5, 3, generator=random, dtype=torch.float64)
        self.offset = torch.randn(5, generator=random, dtype=torch.float64)
        self.log_sigma = torch.tensor(-0.5, dtype=torch.float64)
        self.q = q or self.exact_posterior

    @property
    def variance(self) -> Tensor:
        return torch.exp(2 * self.log_sigma)

    def prior(self, y: Tensor | None = None) -> Distribution:
        return MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))

    def exact_posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x): covariance (I + WᵀW/σ²)⁻¹, mean covariance · Wᵀ(x − b)/σ²."""
        covariance = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + self.weights.T @ self.weights / self.variance)
        return MultivariateNormal((x - self.offset) @ self.weights @ covariance / self.variance, covariance)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return self.q(x)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        return Gaussian(z @ self.weights.T + self.offset, self.log_sigma)

    def log_likelihood(self, x: Tensor) -> float:
        """log N(x; b, WWᵀ + σ² I)."""
        covariance = self.weights @ self.weights.T + self.variance * torch.eye(5, dtype=torch.float64)
        return MultivariateNormal(self.offset, covariance).log_prob(x).item()
