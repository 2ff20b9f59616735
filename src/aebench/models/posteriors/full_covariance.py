"""full_covariance: q(z|x) = N(μ(x), L(x) L(x)ᵀ), L lower triangular (Kingma & Welling 2019, §2.5.1)."""

from typing import Literal, final

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from aebench.config import PosteriorConfig
from aebench.models.posteriors import PosteriorModule


class Config(PosteriorConfig):
    """It has no settings of its own."""

    posterior: Literal["full_covariance"] = "full_covariance"


def make(config: Config, latent_dim: int) -> "FullCovariance":
    """It learns nothing beside the encoder."""
    return FullCovariance(latent_dim)


@final
class FullCovariance(PosteriorModule):
    """μ, the log squares of L's diagonal and what stands below it, side by side in the encoder's output."""

    places: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim, below = latent_dim, latent_dim * (latent_dim - 1) // 2
        self.inputs = 2 * latent_dim + below
        # A product with zeros and ones puts the numbers into the triangle, with a gradient that any device can take.
        row, column = torch.tril_indices(latent_dim, latent_dim, -1, device="cpu")
        places = torch.zeros(below, latent_dim**2, device="cpu")
        places[range(below), row * latent_dim + column] = 1
        self.register_buffer("places", places, persistent=False)

    def forward(self, output: Tensor) -> MultivariateNormal:
        """`[..., inputs]` → batch shape `[...]`."""
        size = self.latent_dim
        mean, log_squares, below = output.split([size, size, self.inputs - 2 * size], dim=-1)
        triangle = (below @ self.places).unflatten(-1, (size, size))
        scale_tril = triangle + torch.diag_embed(torch.exp(0.5 * log_squares))
        return MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)
