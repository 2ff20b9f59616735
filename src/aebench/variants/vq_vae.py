"""VQ-VAE: minimise ‖x − f(e)‖² + ‖sg[z] − e‖² + β ‖z − sg[e]‖² (van den Oord et al. 2017, eq. 3).

z = g(x), e is made of the entries of a learned codebook that are nearest to z, and sg stops the gradient. The gradient
of the first term goes from e straight through to z.

The paper looks up one entry for each place of a feature map. The networks here have a code without places, so its L
dimensions are cut into `groups` vectors of L/groups each, which are all looked up in the same codebook. What is left
out: the codebook by moving averages (its appendix A.1), and the autoregressive prior that the paper fits to the codes
afterwards.
"""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aebench.config import Network, Settings, VariantConfig, Weight, Width
from aebench.models.autoencoder import Autoencoder, ImageSpec, Noise
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import squared_error


class Config(VariantConfig):
    """`codebook`: K, how many entries. `groups`: into how many vectors a code is cut. `commitment`: β."""

    EXAMPLE: ClassVar[Settings] = {"codebook": 8, "groups": 3}

    kind: Literal["vq_vae"]
    codebook: Width
    groups: Width
    commitment: Weight = 0.25

    def misfit(self, network: Network) -> str:
        """The vectors of a code are equally long."""
        if network.latent_dim % self.groups == 0:
            return ""
        return f"groups: found {self.groups} with a latent_dim of {network.latent_dim}, allowed: a divisor of it"


@final
class VQVAE(Autoencoder):
    """The autoencoder with discrete codes."""

    surrogate_gradient = True
    lacks = "p(x|z)"

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(network, spec.shape, network.latent_dim)
        self.decoder = decoder(network, spec.shape)
        entries = torch.empty(config.codebook, network.latent_dim // config.groups)
        self.codebook = nn.Parameter(entries.uniform_(-1, 1))

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(e)‖² + ‖sg[z] − e‖² + β ‖z − sg[e]‖², and its three parts before the weight, `[B]`."""
        z: Tensor = self.encoder(x)
        e = self.quantised(z)
        # The value is exactly e's, and the gradient goes to z.
        error = squared_error(x, self.decode(e.detach() + (z - z.detach())))
        codebook, commitment = squared_error(z.detach(), e), squared_error(z, e.detach())
        loss = error + codebook + self.config.commitment * commitment
        return {"loss": loss, "squared_error": error, "quantisation_error": codebook}

    def quantised(self, z: Tensor) -> Tensor:
        """e `[..., L]` for z `[..., L]`: each vector's nearest entry of the codebook."""
        vectors = z.unflatten(-1, (self.config.groups, -1))
        # ‖z − e‖² without ‖z‖², which is the same for all entries.
        nearness = 2 * vectors @ self.codebook.T - self.codebook.square().sum(-1)
        return F.embedding(nearness.argmax(-1), self.codebook).flatten(-2)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """e, `[B, L]`."""
        return self.quantised(self.encoder(x))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """f(z), `[..., B, D]`."""
        return torch.sigmoid(self.decoder(z))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """f(e), `[B, D]`."""
        return self.decode(self.encode(x))
