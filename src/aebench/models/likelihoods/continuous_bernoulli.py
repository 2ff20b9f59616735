"""continuous_bernoulli: independent pixels in [0, 1] with density C(λ) λ^x (1 − λ)^(1−x).

(Loaiza-Ganem & Cunningham 2019, eq. 6–7.) The decoder's output is l, the log-odds of λ. The density is e^(x·l) over its
integral (e^l − 1)/l.
"""

from typing import Literal, final

import torch
from torch import Tensor

from aebench.config import LikelihoodConfig
from aebench.models.likelihoods import Likelihood, PixelDistribution, positive


class Config(LikelihoodConfig):
    """It has no settings of its own."""

    GREY = "a density of grey pixels in [0, 1]"
    REFUSED = "a density has no meaning there"

    likelihood: Literal["continuous_bernoulli"] = "continuous_bernoulli"


def make(config: Config) -> PixelDistribution:
    """It learns nothing itself."""
    return PixelDistribution(ContinuousBernoulli)


@final
class ContinuousBernoulli(Likelihood):
    """Independent pixels in [0, 1] with density e^(x·l) l/(e^l − 1), l `[..., D]`."""

    # Below this |l| differences of nearly equal numbers are replaced by their series, exact to float32; the curvature
    # is a difference of larger numbers.
    _SMALL, _SMALL_FOR_CURVATURE = 0.3, 1.0

    def __init__(self, output: Tensor) -> None:
        self.output = output

    @property
    def mean(self) -> Tensor:
        """1/(1 − e^−l) − 1/l, which is not λ, `[..., D]`."""
        magnitude = self.output.abs()
        small = magnitude < self._SMALL
        t = torch.where(small, 1.0, magnitude)
        upper = -1 / torch.expm1(-t) - 1 / t  # of |l|: for −l it is one minus that
        s = torch.where(small, self.output, 0.0)
        series = 0.5 + s / 12 * (1 - s**2 / 60 * (1 - s**2 / 42))
        return torch.where(small, series, torch.where(self.output > 0, upper, 1 - upper))

    @property
    def curvature(self) -> Tensor:
        """The variance of x, 1/l² − e^l/(e^l − 1)², `[..., D]`."""
        magnitude = self.output.abs()
        small = magnitude < self._SMALL_FOR_CURVATURE
        t = torch.where(small, 1.0, magnitude)
        s = torch.where(small, magnitude, 0.0)
        series = 1 / 12 - s**2 / 240 * (1 - s**2 / 25.2 * (1 - s**2 / (200 / 7)))
        return positive(torch.where(small, series, (1 / t) ** 2 - torch.exp(-t) / torch.expm1(-t) ** 2))

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ [x·l − log((e^l − 1)/l)] over pixels, in nats, as Σ [(x − ½)·l − ½|l| − log((1 − e^−|l|)/|l|)]."""
        magnitude = self.output.abs()
        small = magnitude < self._SMALL
        t = torch.where(small, 1.0, magnitude)
        s = torch.where(small, magnitude, 0.0)
        series = -s / 2 + s**2 / 24 * (1 - s**2 / 120)
        log_integral = torch.where(small, series, torch.log(-torch.expm1(-t) / t))
        return ((x - 0.5) * self.output - 0.5 * magnitude - log_integral).sum(-1)

    def sample(self) -> Tensor:
        """Grey pixels `[..., D]`, by inversion of the cumulative distribution."""
        magnitude, uniform = self.output.abs(), torch.rand_like(self.output)
        small = magnitude < 1e-3
        t = torch.where(small, 1.0, magnitude)
        lower = torch.where(small, uniform, -torch.log1p(uniform * torch.expm1(-t)) / t)  # of −|l|
        return torch.where(self.output > 0, 1 - lower, lower)
