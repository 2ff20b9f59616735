"""AE: minimise ‖x − f(g(x))‖² (Rumelhart et al. 1986)."""

from typing import Literal, final

import torch
from torch import Tensor

from aebench.config import Network, VariantConfig
from aebench.models.autoencoder import Autoencoder, ImageSpec, Noise
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import squared_error


class Config(VariantConfig):
    """An AE has no settings of its own."""

    kind: Literal["ae"]


@final
class AE(Autoencoder):
    """The plain autoencoder; its output is squashed to [0, 1] as those of the others are."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.encoder = encoder(network, spec.shape, network.latent_dim)
        self.decoder = decoder(network, spec.shape)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x))‖², `[B]`."""
        error = squared_error(x, self.reconstruct(x))
        return {"loss": error, "squared_error": error}

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """g(x), `[B, L]`."""
        codes: Tensor = self.encoder(x)
        return codes

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """f(z), `[..., B, D]`."""
        return torch.sigmoid(self.decoder(z))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """f(g(x)), `[B, D]`."""
        return self.decode(self.encode(x))
