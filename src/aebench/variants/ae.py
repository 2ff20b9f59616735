"""AE: minimise ‖x − f(g(x))‖² (Rumelhart et al. 1986)."""

from typing import Literal, final

from torch import Tensor

from aebench.config import Network, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.deterministic import DeterministicAutoencoder
from aebench.models.objectives import squared_error


class Config(VariantConfig):
    """An AE has no settings of its own."""

    kind: Literal["ae"]


@final
class AE(DeterministicAutoencoder):
    """The plain autoencoder."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__(network, spec)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x))‖², `[B]`."""
        error = squared_error(x, self.reconstruct(x))
        return {"loss": error, "squared_error": error}
