"""What every variant offers.

Shapes: B images of D pixels in [0, 1], labels `[B]` int64 in 0..C−1, codes of L dimensions.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

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


class Autoencoder(nn.Module, ABC):
    """Images to codes and back."""

    conditional_parts: frozenset[str] = frozenset()
    """Which of `prior`, `posterior` and `likelihood` condition on the label; empty where no label was learned from."""
    warmup_epochs: int = 0
    """Epochs at the beginning in which the loss is not yet the objective; a patience begins after them."""
    surrogate_gradient: bool = False
    """Whether the gradient of the loss is meant to be another than that of its values, as a straight-through one is."""
    lacks: str = "p(z)"
    """For want of what it has no likelihood, where it has none: `p(x|z)` for one that has a prior."""

    def before_training(self, images: Tensor, streams: Streams) -> None:
        """Take what the model keeps of the training images, before the first step; nothing unless it says otherwise.

        A run that goes on from a checkpoint takes the same once more: all that is random in it comes from the streams.

        Args:
            images: those of the training split, uint8 `[N, D]`, 0 (black) to 255, on the CPU.
            streams: the run's generators; each purpose has its own.

        Raises:
            ConfigError: they are too few.
        """
        return

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """What the loss of B images takes at random, drawn on the CPU; nothing unless a variant says otherwise.

        Args:
            index: of each image its place in the training split, int64 `[B]` on the CPU; −1 where it is not of it.
            streams: the run's generators; each purpose has its own.
        """
        return ()

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """The training objective for each image: a pure function, so that several runs can be computed as one.

        Args:
            x: `[B, D]`.
            y: labels `[B]`; a variant that learns without labels leaves them alone.
            noise: what `noise(index, streams)` has drawn.
            epoch: from 1, for schedules; None: the objective as it is once every schedule has ended.

        Returns:
            `loss` and its parts by name, `[B]` each: sums over pixels and latents, in nats where the variant has a
            likelihood, else squared errors.
        """

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes `[B, L]` of x `[B, D]`, of x alone where no label is given."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x̂ `[..., B, D]` in [0, 1] of codes z `[..., B, L]`: the mean of p(x|z) where there is one.

        Where the decoder conditions on the label, it must be given.
        """

    @abstractmethod
    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x̂ `[B, D]` of x `[B, D]`: the decoder's mean at the code; from x alone where no label is given."""
