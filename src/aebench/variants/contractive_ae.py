"""Contractive AE: minimise ‖x − f(g(x))‖² + λ ‖∂g/∂x‖²_F (Rifai et al. 2011, J_CAE): codes that hardly move with x.

The Jacobian is that of the whole encoder, whatever its layers. Exactly, the norm takes one derivative for each
dimension of the code; with `probes` it is an unbiased estimate from fewer. The paper ties the decoder's weights to the
encoder's. Here they are free, so the codes also become smaller, which contracts nothing but their scale.
"""

from typing import ClassVar, Literal, final

from torch import Tensor

from aebench.config import Network, Settings, VariantConfig, Weight, Width
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.deterministic import DeterministicAutoencoder
from aebench.models.jacobian import norm_of_encoder, random_signs
from aebench.models.objectives import squared_error
from aebench.randomness import Streams


class Config(VariantConfig):
    """`contraction`: λ, the weight of the penalty.

    `probes`: how many derivatives an estimate of the norm takes; null: it is exact.
    """

    EXAMPLE: ClassVar[Settings] = {"contraction": 0.1}

    kind: Literal["contractive_ae"]
    contraction: Weight
    probes: Width | None = None


@final
class ContractiveAE(DeterministicAutoencoder):
    """The autoencoder that pays for how far its code moves with the image."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__(network, spec)
        self.config, self.latent_dim = config, network.latent_dim

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """The signs of an estimate, `[P, B, L]`; nothing where the norm is exact."""
        if self.config.probes is None:
            return ()
        return (random_signs(self.config.probes, len(index), self.latent_dim, streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x))‖² + λ ‖∂g/∂x‖²_F, and its two parts, `[B]`."""
        codes, norm = norm_of_encoder(self.encode, x, *noise)
        error = squared_error(x, self.decode(codes))
        return {"loss": error + self.config.contraction * norm, "squared_error": error, "jacobian_norm": norm}
