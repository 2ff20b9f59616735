"""mixture: p(z) = Σ_c π_c N(μ_c, diag σ_c²), learned (the baseline of Tomczak & Welling 2018, §5)."""

from typing import ClassVar, Literal, final

import torch
from torch import nn

from aebench.config import Count, PriorConfig, Settings
from aebench.models.autoencoder import ImageSpec
from aebench.models.latents import NormalMixture
from aebench.models.priors import Encoder, PriorModule


class Config(PriorConfig):
    """`components`: C."""

    EXAMPLE: ClassVar[Settings] = {"components": 3}

    prior: Literal["mixture"] = "mixture"
    components: Count


def make(config: Config, latent_dim: int, spec: ImageSpec) -> "Mixture":
    """Its means are drawn from N(0, I), where the codes of a new model lie."""
    return Mixture(config.components, latent_dim)


@final
class Mixture(PriorModule):
    """Gaussians with diagonal covariances."""

    def __init__(self, components: int, latent_dim: int) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.randn(components, latent_dim))
        self.log_variances = nn.Parameter(torch.zeros(components, latent_dim))
        self.log_weights = nn.Parameter(torch.zeros(components))

    def forward(self, encoder: Encoder) -> NormalMixture:
        """p(z)."""
        return NormalMixture(self.means, torch.exp(0.5 * self.log_variances), self.log_weights)
