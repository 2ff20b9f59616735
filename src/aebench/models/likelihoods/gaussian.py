"""gaussian: independent pixels N(μ, σ²), μ the sigmoid of the decoder's output, one σ for all pixels.

The density reaches beyond [0, 1].
"""

import math
from typing import Annotated, Literal, final

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn

from aebench.config import LikelihoodConfig
from aebench.models.likelihoods import Likelihood, PixelDistribution, positive, slope_of_sigmoid

# Where a σ that is learned begins.
FIRST_SIGMA = 0.25
# What may be given. The smallest is a fortieth of the step between two of 256 levels of grey.
SMALLEST_SIGMA, LARGEST_SIGMA = 1e-4, 10_000


def _sigma(value: object) -> object:
    if value == "learned":
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and SMALLEST_SIGMA <= value <= LARGEST_SIGMA:
        return value
    raise ValueError(f"allowed: learned, or a number from {SMALLEST_SIGMA} to {LARGEST_SIGMA}")


class Config(LikelihoodConfig):
    """`sigma`: the standard deviation, a number or `learned`; where it is absent, it is learned."""

    GREY = "a density of grey pixels, which reaches beyond [0, 1]"
    REFUSED = "a density has no meaning there"

    likelihood: Literal["gaussian"] = "gaussian"
    sigma: Annotated[float | str, BeforeValidator(_sigma)] | None = None


def make(config: Config) -> PixelDistribution:
    """Its log σ is a weight unless it is given."""
    if isinstance(config.sigma, int | float):
        return PixelDistribution(_of_output, log_sigma=torch.tensor(math.log(config.sigma)))
    return PixelDistribution(_of_output, log_sigma=nn.Parameter(torch.tensor(math.log(FIRST_SIGMA))))


def _of_output(output: Tensor, log_sigma: Tensor) -> "Gaussian":
    return Gaussian(torch.sigmoid(output), log_sigma, output)


@final
class Gaussian(Likelihood):
    """Independent pixels N(mean, σ²), mean `[..., D]`, one log σ `[]` for all."""

    def __init__(self, mean: Tensor, log_sigma: Tensor, logits: Tensor | None = None) -> None:
        """`logits`, where they are given, are the decoder's output, and the mean is their sigmoid; else it is both."""
        self._mean = mean
        self.log_sigma = log_sigma
        self.output = mean if logits is None else logits
        self._squashed = logits is not None

    @property
    def mean(self) -> Tensor:
        """E[x|z], `[..., D]`."""
        return self._mean

    @property
    def curvature(self) -> Tensor:
        """(∂mean/∂output)²/σ², `[..., D]`."""
        slope = slope_of_sigmoid(self.output) if self._squashed else torch.ones_like(self.output)
        return positive((slope * torch.exp(-self.log_sigma)).square())

    def log_prob(self, x: Tensor) -> Tensor:
        """−‖x − mean‖²/2σ² − D log σ − D/2 log 2π, in nats."""
        pixels = self._mean.shape[-1]
        error = (x - self._mean).square().sum(-1)
        return -0.5 * error * torch.exp(-2 * self.log_sigma) - pixels * (self.log_sigma + 0.5 * math.log(2 * math.pi))

    def sample(self) -> Tensor:
        """The mean with noise, `[..., D]`, not clipped to [0, 1]."""
        return self._mean + self.log_sigma.exp() * torch.randn_like(self._mean)
