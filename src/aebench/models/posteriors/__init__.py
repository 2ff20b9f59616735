"""q(z|x): every file here is a posterior, and its name is the `posterior` that params.yaml gives to a variant.

A file holds `Config`, an `aebench.config.PosteriorConfig` with its own settings, and `make(config, latent_dim)`, which
gives a `PosteriorModule`: from the encoder's output to q(z|x). That is an `Independent` of normals, a
`MultivariateNormal`, or a distribution of one's own with `of(noise)`, which makes z and log q(z|x) of standard normal
noise (`aebench.models.latents.FromNoise`); a flow is a `Flow`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from aebench.config import PosteriorConfig
from aebench.models.generative import Posterior, log_prob_of_noise
from aebench.plugins import configurations, modules


class PosteriorModule(nn.Module, ABC):
    """From the output of an encoder to q(z|x)."""

    inputs: int
    """How many values the encoder gives for an image."""

    @abstractmethod
    def forward(self, output: Tensor) -> Posterior:
        """q(z|x) of batch shape `[...]` from `[..., inputs]`, whose samples `aebench.models.latents.drawn` can make."""


class Flow(ABC):
    """q(z|x) whose samples are those of N(μ, diag σ²), sent through invertible maps (Rezende & Mohamed 2015).

    It knows the density of what it draws alone.
    """

    def __init__(self, mean: Tensor, log_scale: Tensor) -> None:
        """μ and log σ, `[B, L]` both."""
        self.loc, self.log_scale = mean, log_scale

    @abstractmethod
    def transformed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """f(z), `[..., B, L]` → `[..., B, L]`, and log |det ∂f/∂z|, `[..., B]`."""

    def of(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z|x) in nats, from standard normal noise `[..., B, L]`."""
        z, log_det = self.transformed(self.loc + self.log_scale.exp() * noise)
        return z, log_prob_of_noise(noise, self.log_scale.sum(-1) + log_det)

    def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z ~ q, `[*shape, B, L]`, and log q(z|x), `[*shape, B]`, drawn from torch's global generator."""
        return self.of(torch.randn(*shape, *self.loc.shape, device=self.loc.device))


def posteriors() -> dict[str, type[PosteriorConfig]]:
    """For every posterior its configuration, the class named `Config` in its file."""
    return configurations(__name__, PosteriorConfig, "make")


def make(config: PosteriorConfig, latent_dim: int) -> PosteriorModule:
    """The posterior of `config` over `latent_dim` dimensions."""
    made: PosteriorModule = modules(__name__)[config.posterior].make(config, latent_dim)
    return made
