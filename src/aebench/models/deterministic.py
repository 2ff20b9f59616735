"""Autoencoders whose code and reconstruction are functions of the image: they differ in their losses alone."""

from abc import ABC

import torch
from torch import Tensor

from aebench.config import Network
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.models.networks import decoder, encoder


class DeterministicAutoencoder(Autoencoder, ABC):
    """A code g(x) and a reconstruction f(g(x)), squashed to [0, 1] as those of the other variants are."""

    def __init__(self, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.encoder = encoder(network, spec.shape, network.latent_dim)
        self.decoder = decoder(network, spec.shape)

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
