"""WAE-MMD: minimise ‖x − f(g(x))‖² + λ·MMD²(codes, N(0, I)) (Tolstikhin et al. 2018, eq. 4 and algorithm 2).

The encoder is deterministic, and the discrepancy is between the codes of a batch and as many samples of the prior. A
larger batch estimates it better, so the batch size is part of the method.
"""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from aebench.config import Network, Settings, VariantConfig, Weight
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.deterministic import DeterministicAutoencoder
from aebench.models.divergences import mmd
from aebench.models.objectives import squared_error
from aebench.randomness import Streams


class Config(VariantConfig):
    """`mmd_weight`: λ."""

    EXAMPLE: ClassVar[Settings] = {"mmd_weight": 10.0}
    SMALLEST_BATCH: ClassVar[int] = 2

    kind: Literal["wae_mmd"]
    mmd_weight: Weight


@final
class WAE(DeterministicAutoencoder):
    """The autoencoder whose codes, taken together, are to be distributed as N(0, I)."""

    lacks = "p(x|z)"

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__(network, spec)
        self.mmd_weight, self.latent_dim = config.mmd_weight, network.latent_dim

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """Samples of N(0, I), `[B, L]`."""
        return (torch.randn(len(index), self.latent_dim, generator=streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(g(x))‖² + λ·MMD², and its two parts, `[B]`; an image's share of the latter is that of `mmd`."""
        codes = self.encode(x)
        error, discrepancy = squared_error(x, self.decode(codes)), mmd(codes, *noise)
        return {"loss": error + self.mmd_weight * discrepancy, "squared_error": error, "mmd": discrepancy}
