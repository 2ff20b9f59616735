"""conv: convolutions that halve the image, and transposed ones that double it, with ReLU between them.

Kernels have 4 × 4 pixels and a stride of 2, so that every output of a transposed convolution is made of as many inputs
as its neighbours (Odena et al. 2016, "Deconvolution and checkerboard artifacts"). Between the smallest feature map and
the code stand linear layers, as in `mlp`.
"""

import math
from itertools import pairwise
from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor, nn

from aebench.config import Network, Settings, Widths
from aebench.models.networks import Shape
from aebench.models.networks.mlp import layers as linear

_KERNEL, _STRIDE, _PADDING = 4, 2, 1


class Config(Network):
    """Of the encoder; the decoder mirrors it.

    `channels`: of the feature map after each convolution. `hidden`: widths of the linear layers behind them.
    """

    EXAMPLE: ClassVar[Settings] = {"channels": [3, 4], "hidden": [8]}

    architecture: Literal["conv"] = "conv"
    channels: Widths = Field(min_length=1)
    hidden: Widths = ()

    def misfit(self, shape: Shape) -> str:
        """Each convolution halves height and width, which cannot be done to less than 2 pixels."""
        _, height, width = shape
        most = min(height, width).bit_length() - 1
        if len(self.channels) <= most:
            return ""
        found = f"channels: found a list of {len(self.channels)} for images of {height} × {width} pixels"
        return f"{found}, allowed: at most {most}" if most > 0 else f"{found}, allowed: another architecture"


def encoder(config: Config, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., D]` → `[..., outputs]`."""
    maps = _maps(config, shape)
    layers: list[nn.Module] = [nn.Unflatten(-1, shape)]
    for (inputs, *_), (channels, *_) in pairwise(maps):
        layers += [Convolution(inputs, channels, _KERNEL, _STRIDE, _PADDING), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Flatten(-3), *linear([math.prod(maps[-1]), *config.hidden, outputs]))


def decoder(config: Config, latent_dim: int, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., L]` → `[..., outputs·D]`."""
    smallest, *larger = reversed(_maps(config, (outputs * shape[0], *shape[1:])))
    layers = linear([latent_dim, *reversed(config.hidden), math.prod(smallest)])
    layers.append(nn.Unflatten(-1, smallest))
    for (inputs, height, width), (channels, *size) in pairwise([smallest, *larger]):
        odd = (size[0] - 2 * height, size[1] - 2 * width)  # what halving has rounded off
        layers += [nn.ReLU(inplace=True), Transposed(inputs, channels, _KERNEL, _STRIDE, _PADDING, odd)]
    return nn.Sequential(*layers, nn.Flatten(-3))


def _maps(config: Config, shape: Shape) -> list[Shape]:
    """The shape of the image and of each feature map after it."""
    _, height, width = shape
    halved = ((channels, height >> times, width >> times) for times, channels in enumerate(config.channels, 1))
    return [shape, *halved]


@final
class Convolution(nn.Conv2d):
    """`nn.Conv2d` with any number of batch dimensions: `[..., C, H, W]`."""

    def forward(self, maps: Tensor) -> Tensor:
        """One convolution of them all."""
        convolved: Tensor = super().forward(maps.flatten(0, -4)).unflatten(0, maps.shape[:-3])
        return convolved


@final
class Transposed(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with any number of batch dimensions: `[..., C, H, W]`."""

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """One transposed convolution of them all."""
        convolved: Tensor = super().forward(maps.flatten(0, -4), output_size).unflatten(0, maps.shape[:-3])
        return convolved
