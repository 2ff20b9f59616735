"""DAE: minimise ‖x − f(g(x̃))‖² for a corrupted x̃ (Vincent et al. 2008)."""

from typing import ClassVar, Literal, final

from torch import Tensor

from aebench.config import Corruption, Network, Settings, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.corruption import apply, draw
from aebench.models.deterministic import DeterministicAutoencoder
from aebench.models.objectives import squared_error
from aebench.randomness import Streams


class Config(VariantConfig, Corruption):
    """The corruption of the inputs in training, drawn anew for each image in each epoch."""

    EXAMPLE: ClassVar[Settings] = {"corruption": "masking", "corruption_rate": 0.3}

    kind: Literal["dae"]


@final
class DAE(DeterministicAutoencoder):
    """The denoising autoencoder; codes and reconstructions are of the input as it is given."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__(network, spec)
        self.config = config
        self.pixels = spec.pixels

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """What the corruption of each image takes at random, `[B, D]`."""
        return (draw(self.config, (len(index), self.pixels), streams["corruption"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x̃))‖², `[B]`: the error against the clean image."""
        error = squared_error(x, self.reconstruct(apply(x, self.config, *noise)))
        return {"loss": error, "squared_error": error}
