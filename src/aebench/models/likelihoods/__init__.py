"""p(x|z): every file here is a likelihood, and its name is the `likelihood` that params.yaml gives to a variant.

A file holds `Config`, an `aebench.config.LikelihoodConfig` that says what a number under it is on which data and how
many values a pixel it takes from the decoder, with the likelihood's own settings (and `EXAMPLE`, values for those that
must be given); and `make(config)`, which gives a `PixelDistribution`, from the decoder's output to a `Likelihood`.

Shapes: an image has D pixels. A likelihood of batch shape `[...]` is made of the decoder's output `[..., outputs·D]`:
all first values of the pixels, then all second ones. `log_prob` sums over pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from aebench.config import LikelihoodConfig
from aebench.plugins import configurations, modules


class Likelihood(ABC):
    """p(x|z): a distribution over images of independent pixels, of batch shape `[...]`."""

    output: Tensor
    """The decoder's output that it is made of, `[..., outputs·D]`."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], `[..., D]`."""

    @property
    @abstractmethod
    def curvature(self) -> Tensor:
        """The diagonal of the Fisher information in `output`, `[..., outputs·D]`, greater than 0.

        That is E[(∂ log p(x|z) / ∂ output)²] over x ~ p(x|z), the generalised Gauss–Newton curvature of −log p(x|z)
        (Martens 2020, §9).
        """

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x|z) in nats, summed over pixels: x `[..., D]`, broadcast against the parameters → `[...]`."""

    @abstractmethod
    def sample(self) -> Tensor:
        """x ~ p(x|z), `[..., D]`, drawn from torch's global generator."""


@final
class PixelDistribution(nn.Module):
    """From a decoder's output to p(x|z), with what is the same for all images, learned or not."""

    def __init__(self, of: Callable[..., Likelihood], **shared: Tensor) -> None:
        """`of` makes p(x|z) of the decoder's output and `shared`, by name; of these an `nn.Parameter` is learned."""
        super().__init__()
        self._of, self._shared = of, tuple(shared)
        for name, value in shared.items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value, persistent=False)

    def forward(self, output: Tensor) -> Likelihood:
        """p(x|z) for the decoder's output `[..., outputs·D]`."""
        return self._of(output, **{name: getattr(self, name) for name in self._shared})


def likelihoods() -> dict[str, type[LikelihoodConfig]]:
    """For every likelihood its configuration, the class named `Config` in its file."""
    return configurations(__name__, LikelihoodConfig, "make")


def make(config: LikelihoodConfig) -> PixelDistribution:
    """The likelihood of `config`, from the decoder's output on."""
    made: PixelDistribution = modules(__name__)[config.likelihood].make(config)
    return made


def positive(curvature: Tensor) -> Tensor:
    """The same, of any shape, but that what has vanished in rounding is the smallest number."""
    return curvature.clamp(min=torch.finfo(curvature.dtype).tiny)


def slope_of_sigmoid(values: Tensor) -> Tensor:
    """The sigmoid's derivative s(t)·s(−t), which is the variance of a Bernoulli variable with log-odds t: `[...]`."""
    return torch.sigmoid(values) * torch.sigmoid(-values)
