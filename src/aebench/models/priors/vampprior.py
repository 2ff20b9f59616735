"""vampprior: p(z) = (1/U) Σ_u q(z|u) over learned pseudo-inputs u (Tomczak & Welling 2018, eq. 9)."""

from typing import ClassVar, Literal, final

import torch
from torch import nn
from torch.distributions import Independent

from aebench.config import Count, PriorConfig, Settings
from aebench.models.autoencoder import ImageSpec
from aebench.models.latents import NormalMixture
from aebench.models.priors import Encoder, PriorModule

# Where the pseudo-inputs begin, as in the published code: nearly black images.
MEAN, STANDARD_DEVIATION = 0.05, 0.01


class Config(PriorConfig):
    """`pseudo_inputs`: U, the number of the mixture's components."""

    EXAMPLE: ClassVar[Settings] = {"pseudo_inputs": 3}

    prior: Literal["vampprior"] = "vampprior"
    pseudo_inputs: Count = 500

    @property
    def posteriors(self) -> tuple[str, ...]:
        """Those whose mixture has a density."""
        return ("diagonal",)


def make(config: Config, latent_dim: int, spec: ImageSpec) -> "VampPrior":
    """Its pseudo-inputs are images of `spec`."""
    return VampPrior(config.pseudo_inputs, spec.pixels)


@final
class VampPrior(PriorModule):
    """A mixture of the encoder's posteriors, each Gaussian with a diagonal covariance."""

    def __init__(self, count: int, pixels: int) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(MEAN + STANDARD_DEVIATION * torch.randn(count, pixels))

    def forward(self, encoder: Encoder) -> NormalMixture:
        """p(z)."""
        components = encoder(self.pseudo_inputs.clamp(0, 1))
        assert isinstance(components, Independent)
        normal = components.base_dist
        return NormalMixture(normal.loc, normal.scale, torch.zeros_like(normal.loc[:, 0]))
