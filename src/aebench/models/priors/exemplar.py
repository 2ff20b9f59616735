"""exemplar: p(z) = (1/N) Σ_n N(z; μ(x_n), σ² I) over training images x_n (Norouzi, Fleet & Norouzi 2020, §3).

μ is the mean of the encoder's q(z|x), and σ² one number that is learned. While it trains, the prior of an image leaves
out the image itself, which would else explain itself best. Some exemplars, drawn anew for each step, stand for all of
them: by Jensen's inequality their bound is in expectation at most that of all. Everywhere else there are all N.

The published code draws half of the training images for each step, and evaluates with all of them. With its approximate
prior it encodes of these the 10 that are nearest to each image of the batch, as a cache of codes has it. Here a step
encodes whatever it draws, and the cache is left out. The N images are part of the model, so that one that is restored
has its prior without the data. As in that code they are encoded as they are, also where training sees their grey values
drawn as 0 or 1. σ² begins at 1; theirs is drawn.
"""

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributions import Independent

from aebench.config import PriorConfig, Settings
from aebench.errors import ConfigError
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.latents import EqualMixture
from aebench.models.priors import Encoder, PriorModule
from aebench.randomness import Streams

# Exemplars that are encoded together.
TOGETHER = 1000


class Config(PriorConfig):
    """`exemplars`: N; each takes a byte a pixel in the file of the weights. `exemplars_a_step`: how many are drawn."""

    EXAMPLE: ClassVar[Settings] = {"exemplars": 5, "exemplars_a_step": 3}

    prior: Literal["exemplar"] = "exemplar"
    exemplars: Annotated[int, Field(ge=2, le=100_000_000)] = 5000
    # At least two, since one of them may be the image itself.
    exemplars_a_step: Annotated[int, Field(ge=2, le=65_536)] = 500

    @property
    def posteriors(self) -> tuple[str, ...]:
        """That with a mean of the encoder's own."""
        return ("diagonal",)

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> "Config":
        if self.exemplars_a_step > self.exemplars:
            found = f"found {self.exemplars_a_step} with {self.exemplars} exemplars"
            raise ValueError(f"exemplars_a_step: {found}, allowed: at most {self.exemplars}")
        return self

    def misfit(self, train_images: int) -> str:
        """Each is another training image."""
        if self.exemplars <= train_images:
            return ""
        return f"exemplars: found {self.exemplars}, allowed: at most {train_images}, the number of training images"


def make(config: Config, latent_dim: int, spec: ImageSpec) -> "ExemplarPrior":
    """It has its exemplars once it has seen the training images; until then they are black."""
    return ExemplarPrior(config, spec.pixels)


@final
class ExemplarPrior(PriorModule):
    """Equal Gaussians around the codes of training images."""

    images: Tensor
    places: Tensor

    def __init__(self, config: Config, pixels: int) -> None:
        super().__init__()
        self.config = config
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.register_buffer("images", torch.zeros(config.exemplars, pixels, dtype=torch.uint8))
        self.register_buffer("places", torch.arange(config.exemplars))  # in the training split

    def before_training(self, images: Tensor, streams: Streams) -> None:
        """Draw the exemplars, without replacement.

        Raises:
            ConfigError: there are fewer images.
        """
        if misfit := self.config.misfit(len(images)):
            raise ConfigError(misfit)
        places = torch.randperm(len(images), generator=streams["exemplars"])[: self.config.exemplars]
        self.images.copy_(images[places])
        self.places.copy_(places)

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """For training images which exemplars stand for all, `[M]`, and `index`; for others nothing: they have all."""
        if bool((index < 0).all()):
            return ()
        order = torch.randperm(self.config.exemplars, generator=streams["exemplars of a step"])
        return order[: self.config.exemplars_a_step], index

    def forward(self, encoder: Encoder) -> EqualMixture:
        """p(z), of all exemplars."""
        codes = [self._codes(encoder, images) for images in self.images.split(TOGETHER)]
        return EqualMixture(torch.cat(codes), self.log_variance)

    def of_batch(self, encoder: Encoder, *noise: Tensor) -> EqualMixture:
        """p(z) of the exemplars that were drawn, for each image but itself; of all where none were drawn."""
        if not noise:
            return self.forward(encoder)
        drawn, index = noise
        left_out = self.places[drawn] == index[:, None]
        return EqualMixture(self._codes(encoder, self.images[drawn]), self.log_variance, left_out)

    def _codes(self, encoder: Encoder, images: Tensor) -> Tensor:
        """μ of images uint8 `[N, D]`, `[N, L]`."""
        q = encoder(images.to(self.log_variance.dtype) / 255)
        assert isinstance(q, Independent)
        mean: Tensor = q.mean
        return mean
