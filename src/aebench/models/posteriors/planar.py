"""planar: q(z|x) is a Gaussian behind planar maps z + û tanh(wᵀz + b) (Rezende & Mohamed 2015, §4.1)."""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from aebench.config import Layers, PosteriorConfig, Settings
from aebench.models.posteriors import Flow, PosteriorModule


class Config(PosteriorConfig):
    """`maps`: how many, one after the other; the encoder gives u, w and b of each for every image."""

    EXAMPLE: ClassVar[Settings] = {"maps": 2}

    posterior: Literal["planar"] = "planar"
    maps: Layers


def make(config: Config, latent_dim: int) -> "Planar":
    """It learns nothing beside the encoder."""
    return Planar(config.maps, latent_dim)


@final
class Planar(PosteriorModule):
    """μ and log σ², then u, w and b of each map, side by side in the encoder's output."""

    def __init__(self, maps: int, latent_dim: int) -> None:
        super().__init__()
        self.maps, self.latent_dim = maps, latent_dim
        self.inputs = 2 * latent_dim + maps * (2 * latent_dim + 1)

    def forward(self, output: Tensor) -> "PlanarFlow":
        """`[..., inputs]` → batch shape `[...]`."""
        size = self.latent_dim
        mean, log_variance, *rest = output.split([size, size, *[size, size, 1] * self.maps], dim=-1)
        maps = [(u, w, b.squeeze(-1)) for u, w, b in zip(rest[::3], rest[1::3], rest[2::3], strict=True)]
        return PlanarFlow(mean, 0.5 * log_variance, maps)


@final
class PlanarFlow(Flow):
    """Maps (u, w, b): `[B, L]`, `[B, L]`, `[B]`."""

    def __init__(self, mean: Tensor, log_scale: Tensor, maps: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        super().__init__(mean, log_scale)
        self.maps = maps

    def transformed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One map after the other; û is u moved along w so that wᵀû > −1, and the map is invertible (appendix A.1)."""
        log_det = torch.zeros_like(z[..., 0])
        for u, w, b in self.maps:
            inner = (w * u).sum(-1)
            positive = torch.logaddexp(torch.zeros_like(inner), inner)  # 1 + wᵀû
            u_hat = u + ((positive - 1 - inner) / w.square().sum(-1)).unsqueeze(-1) * w
            activation = _tanh((w * z).sum(-1) + b)
            # The change of volume is 1 + (1 − tanh²) wᵀû, which rounds to 0 where wᵀû is next to −1; this does not.
            squared = activation.square()
            volume = squared + (1 - squared) * positive
            z, log_det = z + u_hat * activation.unsqueeze(-1), log_det + volume.log()
        return z, log_det


def _tanh(values: Tensor) -> Tensor:
    """By the sigmoid, which is the same on every CPU."""
    return 2 * torch.sigmoid(2 * values) - 1
