"""What every variant offers, and what a variant with a likelihood offers besides.

Shapes: B images of D pixels in [0, 1], labels `[B]` int64 in 0..C−1, codes of L dimensions.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.distributions import Distribution

from aebench.models.likelihoods import Likelihood
from aebench.randomness import Streams

Noise = tuple[Tensor, ...]
"""What a loss takes at random for a batch."""


@dataclass(frozen=True)
class ImageSpec:
    """What a model must know of its data: an image's shape (C, H, W) and the classes' shares of the training labels."""

    shape: tuple[int, int, int]
    class_shares: tuple[float, ...]

    @property
    def pixels(self) -> int:
        """D = C·H·W."""
        return math.prod(self.shape)


class LatentVariables(Protocol):
    """A model p(y) p(z|y) p(x|z, y) with a proposal q(z|x, y): all that the bounds and estimators need to know.

    `label_enters` names what the label changes; where it is empty there is no y. Given labels `y` `[B]`, each method
    conditions on them where the model does. Without labels `prior` is Σ_y p(y) p(z|y), and `posterior` and
    `likelihood` are defined unless the label enters them.
    """

    label_enters: frozenset[str]
    """Which of `prior`, `posterior` and `likelihood` the label changes."""
    log_class_shares: Tensor
    """log p(y), `[C]`; looked at only where a label enters."""

    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z), or p(z|y): event shape `[L]`, batch shape `[]` or `[B]`."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """q(z|x), or q(z|x, y), with `rsample` and `log_prob`: batch shape `[B]`, event shape `[L]`."""

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z), or p(x|z, y), for z `[..., B, L]`: parameters `[..., B, D]`."""


class Autoencoder(nn.Module, ABC):
    """Images to codes and back."""

    label_enters: frozenset[str] = frozenset()
    """Which of `prior`, `posterior` and `likelihood` the label changes; empty where no label was learned from."""

    def noise(self, size: int, streams: Streams) -> Noise:
        """What the loss of `size` images takes at random, drawn on the CPU; nothing unless a variant says otherwise.

        Args:
            size: B.
            streams: the run's generators; each purpose has its own.
        """
        return ()

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """The training objective for each image: a pure function, so that several runs can be computed as one.

        Args:
            x: `[B, D]`.
            y: labels `[B]`; a variant that learns without labels leaves them alone.
            noise: what `noise(B, streams)` has drawn.
            epoch: from 1, for schedules; None: the objective as it is once every schedule has ended.

        Returns:
            `loss` and its parts by name, `[B]` each: sums over pixels and latents, in nats where the variant has a
            likelihood, else squared errors.
        """

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes `[B, L]` of x `[B, D]`, the mean of q where there is one; of x alone where no label is given."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x̂ `[..., B, D]` in [0, 1] of codes z `[..., B, L]`: the mean of p(x|z) where there is one.

        Where the label enters the decoder, it must be given.
        """

    @abstractmethod
    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x̂ `[B, D]` of x `[B, D]`: the decoder's mean at the code; from x alone where no label is given."""


class LatentVariableModel(Autoencoder):
    """A trainable model with `LatentVariables`: bounds and estimators are written once, from its distributions."""

    log_class_shares: Tensor

    @abstractmethod
    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z), or p(z|y): event shape `[L]`, batch shape `[]` or `[B]`."""

    @abstractmethod
    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """q(z|x), or q(z|x, y), with `rsample` and `log_prob`: batch shape `[B]`, event shape `[L]`."""

    @abstractmethod
    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z), or p(x|z, y), for z `[..., B, L]`: parameters `[..., B, D]`."""
