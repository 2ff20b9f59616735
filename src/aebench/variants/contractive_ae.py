"""Contractive AE: minimise ‖x − f(g(x))‖² + λ ‖∂g/∂x‖²_F (Rifai et al. 2011, eq. 7): codes that hardly move with x.

The Jacobian is that of the whole encoder, whatever its layers. It is exact, which takes one derivative for each
dimension of the code. The paper's decoder has the encoder's weights, transposed; here it has its own, so a smaller
code with a larger decoder would be another way to a smaller penalty.
"""

from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from aebench.config import Network, Settings, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.deterministic import DeterministicAutoencoder
from aebench.models.jacobian import norm_of_encoder
from aebench.models.objectives import squared_error


class Config(VariantConfig):
    """`contraction`: λ, the weight of the penalty."""

    EXAMPLE: ClassVar[Settings] = {"contraction": 0.1}

    kind: Literal["contractive_ae"]
    contraction: float = Field(ge=0)


@final
class ContractiveAE(DeterministicAutoencoder):
    """The autoencoder that pays for how far its code moves with the image."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__(network, spec)
        self.contraction = config.contraction

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x))‖² + λ ‖∂g/∂x‖²_F, and its two parts, `[B]`."""
        codes, contraction = norm_of_encoder(self.encode, x)
        error = squared_error(x, self.decode(codes))
        return {"loss": error + self.contraction * contraction, "squared_error": error, "jacobian_norm": contraction}
