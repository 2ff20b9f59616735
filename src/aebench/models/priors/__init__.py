"""p(z): every file here is a prior, and its name is the `prior` that params.yaml gives to a variant.

A file holds `Config`, an `aebench.config.PriorConfig` with its own settings, and `make(config, latent_dim, spec)`, from
which a `PriorModule` comes: from the encoder to p(z).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from aebench.config import PriorConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.generative import Posterior, Prior
from aebench.plugins import configurations, modules
from aebench.randomness import Streams

Encoder = Callable[[Tensor], Posterior]
"""q(z|x) of images `[B, D]`, batch shape `[B]`."""


class PriorModule(nn.Module, ABC):
    """What p(z) is made of, learned or not.

    The other methods are for one that keeps training images, or whose p(z) depends on the batch while it trains.
    """

    @abstractmethod
    def forward(self, encoder: Encoder) -> Prior:
        """p(z), event shape `[L]`; most priors leave the encoder alone."""

    def before_training(self, images: Tensor, streams: Streams) -> None:
        """Take what it keeps of the training images, as `Autoencoder.before_training`."""
        return

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """What `of_batch` takes at random for images at `index`, as `Autoencoder.noise`."""
        return ()

    def of_batch(self, encoder: Encoder, *noise: Tensor) -> Prior:
        """p(z) as the loss of a batch has it, with what `noise` has drawn for that."""
        prior: Prior = self(encoder)
        return prior


def priors() -> dict[str, type[PriorConfig]]:
    """For every prior its configuration, the class named `Config` in its file."""
    return configurations(__name__, PriorConfig, "make")


def make(config: PriorConfig, latent_dim: int, spec: ImageSpec) -> PriorModule:
    """The prior of `config` over `latent_dim` dimensions, for images of `spec`."""
    made: PriorModule = modules(__name__)[config.prior].make(config, latent_dim, spec)
    return made
