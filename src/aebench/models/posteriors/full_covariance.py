"""full_covariance: q(z|x) = N(μ(x), L(x) L(x)ᵀ), L lower triangular (Kingma & Welling 2019, §2.5.1)."""

from typing import Literal, final

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, register_kl
from torch.nn.functional import pad

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

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.inputs = 2 * latent_dim + latent_dim * (latent_dim - 1) // 2

    def forward(self, output: Tensor) -> MultivariateNormal:
        """`[..., inputs]` → batch shape `[...]`."""
        size = self.latent_dim
        mean, log_squares, *below = output.split([size, size, *range(size)], dim=-1)  # row by row
        triangle = torch.stack([pad(row, (0, size - row.shape[-1])) for row in below], dim=-2)
        scale_tril = triangle + torch.diag_embed(torch.exp(0.5 * log_squares))
        return MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)


@register_kl(MultivariateNormal, Independent)
def _divergence(q: MultivariateNormal, p: Independent[Normal]) -> Tensor:
    """KL(q‖p) of N(μ, L Lᵀ) and N(m, diag s²) in nats, which torch knows for two full covariances alone.

    ½ [‖diag(s)⁻¹ L‖² + ‖(μ − m)/s‖² − size] + Σ log s − Σ log diag L (Kingma & Welling 2014, §B, with both general).
    """
    if not isinstance(p.base_dist, Normal):
        raise NotImplementedError
    mean, scale = p.base_dist.loc, p.base_dist.scale
    squares = (q.scale_tril / scale.unsqueeze(-1)).square().sum((-2, -1)) + ((q.loc - mean) / scale).square().sum(-1)
    log_volumes = q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) - scale.log().sum(-1)
    return 0.5 * (squares - q.loc.shape[-1]) - log_volumes
