"""Sparse AE: of the units of a code only few are far from 0. `sparsity` says how that is brought about.

`l1`: minimise ‖x − f(z)‖² + λ ‖z‖₁ with z = g(x) (Goodfellow, Bengio & Courville 2016, §14.2.1).

`k_sparse`: minimise ‖x − f(z)‖², where z is g(x) with all but its k largest units set to 0 (Makhzani & Frey 2014, §2).
A code after training has αk units; α ≥ 1. The paper's schedule, which begins with a larger k, is left out.
"""

import math
from fractions import Fraction
from typing import ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from aebench.config import Network, Settings, VariantConfig, Weight, Width
from aebench.models.autoencoder import Autoencoder, ImageSpec, Noise
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import squared_error


class Config(VariantConfig):
    """`l1_weight`: λ. `k`, `alpha`: k units are kept in training, ⌊αk⌋ after it."""

    EXAMPLE: ClassVar[Settings] = {"sparsity": "l1", "l1_weight": 0.1}

    kind: Literal["sparse_ae"]
    sparsity: Literal["l1", "k_sparse"]
    l1_weight: Weight | None = None
    k: Width | None = None
    alpha: float = Field(default=1.0, ge=1)

    @model_validator(mode="after")
    def _settings_of_this_sparsity(self) -> "Config":
        own, other = ("l1_weight", "k") if self.sparsity == "l1" else ("k", "l1_weight")
        if getattr(self, own) is None:
            raise ValueError(f"{own}: missing with sparsity {self.sparsity}, it has no default")
        if (value := getattr(self, other)) is not None:
            raise ValueError(f"{other}: found {value} with sparsity {self.sparsity}, allowed: null")
        if self.sparsity == "l1" and self.alpha != 1:
            raise ValueError(f"alpha: found {self.alpha} with sparsity l1, allowed: 1, or sparsity: k_sparse")
        return self

    def misfit(self, network: Network) -> str:
        """No more units can be kept than there are, neither in training nor after it."""
        length = network.latent_dim
        if self.k is not None and self.k > length:
            return f"k: found {self.k} with a latent_dim of {length}, allowed: at most {length}"
        if self.k is not None and self.alpha * self.k >= length + 1:
            most = f"{length / self.k:g} with k {self.k}"
            return f"alpha: found {self.alpha:g} with a latent_dim of {length}, allowed: at most {most}"
        return ""


@final
class SparseAE(Autoencoder):
    """The autoencoder whose code has few units that matter."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(network, spec.shape, network.latent_dim)
        self.decoder = decoder(network, spec.shape)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(z)‖² + λ ‖z‖₁, or without the penalty, and its parts, `[B]`."""
        codes = self._code(x, alpha=1.0)
        error, size = squared_error(x, self.decode(codes)), codes.abs().sum(-1)
        return {"loss": error + (self.config.l1_weight or 0.0) * size, "squared_error": error, "l1_norm": size}

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """g(x), or its αk largest units, `[B, L]`."""
        return self._code(x, self.config.alpha)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """f(z), `[..., B, D]`."""
        return torch.sigmoid(self.decoder(z))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """f of the code, `[B, D]`."""
        return self.decode(self.encode(x))

    def _code(self, x: Tensor, alpha: float) -> Tensor:
        codes: Tensor = self.encoder(x)
        return codes if self.config.k is None else largest(codes, math.floor(Fraction(str(alpha)) * self.config.k))


def largest(codes: Tensor, count: int) -> Tensor:
    """`codes` `[..., L]`, all but the `count` largest of each set to 0; of equal ones no more are kept."""
    rank = codes.argsort(-1, descending=True).argsort(-1)
    return codes * (rank < count)
