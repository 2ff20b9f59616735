"""What every variant offers, and what a variant with a likelihood offers besides.

Shapes: B images of D pixels in [0, 1], labels `[B]` int64 in 0..C−1, codes of L dimensions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn
from torch.distributions import Distribution

from aebench.models.likelihoods import Likelihood
from aebench.randomness import Streams


@dataclass(frozen=True)
class ImageSpec:
    """What a model must know of its data: D and, for C classes, their shares among the training labels."""

    pixels: int
    class_shares: tuple[float, ...]


class Autoencoder(nn.Module, ABC):
    """Images to codes and back."""

    label_enters: frozenset[str] = frozenset()
    """Which of `prior`, `posterior` and `likelihood` the label changes; empty where no label was learned from."""

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor, *, epoch: int | None, streams: Streams) -> dict[str, Tensor]:
        """The training objective for each image.

        Args:
            x: `[B, D]`.
            y: labels `[B]`; a variant that learns without labels leaves them alone.
            epoch: from 1, for schedules; None: the objective as it is once every schedule has ended.
            streams: the run's generators; each purpose has its own.

        Returns:
            `loss` and its parts by name, `[B]` each.
        """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Codes `[B, L]` of x `[B, D]`; never from the label."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ `[B, D]` of x `[B, D]`: the decoder's mean at the code; never from the label."""


class LatentVariableModel(Autoencoder):
    """A model p(z) p(x|z) with a proposal q(z|x). Bounds and estimators are written once, from these three.

    Given labels `y` `[B]`, each conditions on them where the model does; without, it is of the model in which the
    label is summed out.
    """

    @abstractmethod
    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z), or p(z|y): event shape `[L]`, batch shape `[]` or `[B]`."""

    @abstractmethod
    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """q(z|x), or q(z|x, y), with `rsample` and `log_prob`: batch shape `[B]`, event shape `[L]`."""

    @abstractmethod
    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z), or p(x|z, y), for z `[..., B, L]`: parameters `[..., B, D]`."""
