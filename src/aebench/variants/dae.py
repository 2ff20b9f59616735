"""DAE: minimise ‖x − f(g(x̃))‖² for a corrupted x̃ (Vincent et al. 2008)."""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from aebench.config import Corruption, Network, Settings, VariantConfig
from aebench.models.autoencoder import Autoencoder, ImageSpec, Noise
from aebench.models.corruption import apply, draw
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import squared_error
from aebench.randomness import Streams


class Config(VariantConfig, Corruption):
    """The corruption of the inputs in training, drawn anew for each image in each epoch."""

    EXAMPLE: ClassVar[Settings] = {"corruption": "masking", "corruption_rate": 0.3}

    kind: Literal["dae"]


@final
class DAE(Autoencoder):
    """The denoising autoencoder; codes and reconstructions are of the input as it is given."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.config = config
        self.pixels = spec.pixels
        self.encoder = encoder(network, spec.shape, network.latent_dim)
        self.decoder = decoder(network, spec.shape)

    def noise(self, size: int, streams: Streams) -> Noise:
        """What the corruption of each image takes at random, `[B, D]`."""
        return (draw(self.config, (size, self.pixels), streams["corruption"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x̃))‖², `[B]`: the error against the clean image."""
        error = squared_error(x, self.reconstruct(apply(x, self.config, *noise)))
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
