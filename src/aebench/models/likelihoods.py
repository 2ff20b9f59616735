"""p(x|z): what a decoder's output says about an image.

Shapes: an image has D pixels; a likelihood of batch shape `[...]` holds parameters `[..., D]`, and `log_prob` sums
over pixels.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pixels = Literal["bernoulli", "continuous_bernoulli", "gaussian"]


class Likelihood(ABC):
    """p(x|z): a distribution over images, of batch shape `[...]`."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], `[..., D]`."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x|z) in nats, summed over pixels: x `[..., D]`, broadcast against the parameters → `[...]`."""

    @abstractmethod
    def sample(self) -> Tensor:
        """x ~ p(x|z), `[..., D]`, drawn from torch's global generator."""


@final
class Bernoulli(Likelihood):
    """Independent pixels in {0, 1}; the decoder's output `[..., D]` is their log-odds l.

    For grey pixels in [0, 1] `log_prob` is the negative cross-entropy. That is no normalised likelihood: its integral
    over x is less than one, so such numbers compare only with each other and are labelled wherever they appear.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """The probability of a 1, the sigmoid of l, `[..., D]`."""
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ [x·l − log(1 + e^l)] over pixels, in nats."""
        if torch.is_grad_enabled():
            logits, x = torch.broadcast_tensors(self.logits, x)
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return log_bernoulli(self.logits, x)

    def sample(self) -> Tensor:
        """Zeros and ones, `[..., D]`."""
        return torch.bernoulli(self.mean)


@final
class ContinuousBernoulli(Likelihood):
    """Independent pixels in [0, 1] with density C(λ) λ^x (1 − λ)^(1−x) (Loaiza-Ganem & Cunningham 2019, eq. 6–7).

    The decoder's output `[..., D]` is l, the log-odds of λ. The density is e^(x·l) over its integral (e^l − 1)/l.
    """

    # Below this |l| differences of nearly equal numbers are replaced by their series, exact to float32.
    _SMALL = 0.3

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """1/(1 − e^−l) − 1/l, which is not λ, `[..., D]`."""
        magnitude = self.logits.abs()
        small = magnitude < self._SMALL
        t = torch.where(small, 1.0, magnitude)
        upper = -1 / torch.expm1(-t) - 1 / t  # of |l|: for −l it is one minus that
        s = torch.where(small, self.logits, 0.0)
        series = 0.5 + s / 12 * (1 - s**2 / 60 * (1 - s**2 / 42))
        return torch.where(small, series, torch.where(self.logits > 0, upper, 1 - upper))

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ [x·l − log((e^l − 1)/l)] over pixels, in nats, as Σ [(x − ½)·l − ½|l| − log((1 − e^−|l|)/|l|)]."""
        magnitude = self.logits.abs()
        small = magnitude < self._SMALL
        t = torch.where(small, 1.0, magnitude)
        s = torch.where(small, magnitude, 0.0)
        series = -s / 2 + s**2 / 24 * (1 - s**2 / 120)
        log_integral = torch.where(small, series, torch.log(-torch.expm1(-t) / t))
        return ((x - 0.5) * self.logits - 0.5 * magnitude - log_integral).sum(-1)

    def sample(self) -> Tensor:
        """Grey pixels `[..., D]`, by inversion of the cumulative distribution."""
        magnitude, uniform = self.logits.abs(), torch.rand_like(self.logits)
        small = magnitude < 1e-3
        t = torch.where(small, 1.0, magnitude)
        lower = torch.where(small, uniform, -torch.log1p(uniform * torch.expm1(-t)) / t)  # of −|l|
        return torch.where(self.logits > 0, 1 - lower, lower)


@final
class Gaussian(Likelihood):
    """Independent pixels N(mean, σ²), mean `[..., D]`, one log σ `[]` for all; its density reaches beyond [0, 1]."""

    def __init__(self, mean: Tensor, log_sigma: Tensor) -> None:
        self._mean = mean
        self.log_sigma = log_sigma

    @property
    def mean(self) -> Tensor:
        """E[x|z], `[..., D]`."""
        return self._mean

    def log_prob(self, x: Tensor) -> Tensor:
        """−‖x − mean‖²/2σ² − D log σ − D/2 log 2π, in nats."""
        pixels = self._mean.shape[-1]
        error = (x - self._mean).square().sum(-1)
        return -0.5 * error * torch.exp(-2 * self.log_sigma) - pixels * (self.log_sigma + 0.5 * math.log(2 * math.pi))

    def sample(self) -> Tensor:
        """The mean with noise, `[..., D]`, not clipped to [0, 1]."""
        return self._mean + self.log_sigma.exp() * torch.randn_like(self._mean)


@final
class PixelDistribution(nn.Module):
    """From a decoder's output to p(x|z), with what p(x|z) itself learns."""

    def __init__(self, likelihood: Pixels, sigma: float | str | None = None) -> None:
        """`sigma` is that of `gaussian`, one for all pixels; where it is no number, it is learned, from 0.25 on."""
        super().__init__()
        self.likelihood = likelihood
        if likelihood == "gaussian":
            if isinstance(sigma, int | float):
                self.register_buffer("log_sigma", torch.tensor(math.log(sigma)), persistent=False)
            else:
                self.log_sigma = nn.Parameter(torch.tensor(math.log(0.25)))

    def forward(self, output: Tensor) -> Likelihood:
        """p(x|z) for the decoder's output `[..., D]`: log-odds, those of the mean for `gaussian`."""
        match self.likelihood:
            case "bernoulli":
                return Bernoulli(output)
            case "continuous_bernoulli":
                return ContinuousBernoulli(output)
            case "gaussian":
                return Gaussian(torch.sigmoid(output), self.log_sigma)


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Σ [x·l − log(1 + e^l)] over the last dimension, in nats, fast and without gradients: `[..., D]` → `[...]`.

    x·l − log(1 + e^l) = (x − ½)·l − ½|l| + log s(|l|) with the sigmoid s, whose values lie in [½, 1]: up to 64 of them
    are multiplied before one logarithm is taken, where a logarithm a pixel would cost as much as the decoder.
    """
    one_image = x.numel() == x.shape[-1]  # whose product with many logits needs no memory for the terms
    result: Tensor = logits @ (x.flatten() - 0.5) if one_image else torch.linalg.vecdot(logits, x - 0.5)
    factors = logits.abs()
    result -= 0.5 * factors.sum(-1)
    factors.sigmoid_()
    for _ in range(6):
        half, odd = divmod(factors.shape[-1], 2)
        if odd:
            break
        factors = factors[..., :half].mul_(factors[..., half:])
    result += factors.log_().sum(-1)
    return result
