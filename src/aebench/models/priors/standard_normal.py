"""standard_normal: p(z) = N(0, I) (Kingma & Welling 2014)."""

from typing import Literal, final

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from aebench.config import PriorConfig
from aebench.models.autoencoder import ImageSpec
from aebench.models.latents import unit_normal
from aebench.models.priors import Encoder, PriorModule


class Config(PriorConfig):
    """It has no settings of its own."""

    prior: Literal["standard_normal"] = "standard_normal"


def make(config: Config, latent_dim: int, spec: ImageSpec) -> "StandardNormal":
    """It learns nothing."""
    return StandardNormal(latent_dim)


@final
class StandardNormal(PriorModule):
    """N(0, I)."""

    origin: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)

    def forward(self, encoder: Encoder) -> Independent[Normal]:
        """p(z)."""
        return unit_normal(self.origin)
