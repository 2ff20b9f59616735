"""gated_mlp: linear layers whose outputs h are gated, h·sigmoid(g), with g from linear layers of their own.

They are the gated linear units of Dauphin et al. 2017, and the deterministic layers of the VampPrior's networks
(Tomczak & Welling 2018, §5.2).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from aebench.config import Network, Settings, Widths
from aebench.models.networks import Shape

Weights = Literal["uniform", "he_normal"]


class Config(Network):
    """`hidden`: widths of the encoder's hidden layers; the decoder has them in reverse.

    `weights`: how they are drawn: as torch draws those of a linear layer, uniformly, or from N(0, 2/inputs) (He et al.
    2015), as the VampPrior's published code does. Biases are torch's in both cases.
    """

    EXAMPLE: ClassVar[Settings] = {"hidden": [16]}

    architecture: Literal["gated_mlp"] = "gated_mlp"
    hidden: Widths
    weights: Weights = "uniform"


def encoder(config: Config, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., D]` → `[..., outputs]`."""
    return layers([math.prod(shape), *config.hidden], outputs, config.weights)


def decoder(config: Config, latent_dim: int, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., L]` → `[..., outputs·D]`."""
    return layers([latent_dim, *reversed(config.hidden)], outputs * math.prod(shape), config.weights)


def layers(widths: Sequence[int], outputs: int, weights: Weights = "uniform") -> nn.Sequential:
    """Gated layers from each width to the next, then a linear one."""
    made: list[nn.Module] = []
    for inputs, width in pairwise(widths):
        made += [_linear(inputs, 2 * width, weights), Gate()]  # h and g in one product
    return nn.Sequential(*made, _linear(widths[-1], outputs, weights))


def _linear(inputs: int, outputs: int, weights: Weights) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if weights == "he_normal":
        nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
    return layer


@final
class Gate(nn.Module):
    """h·sigmoid(g), as `nn.GLU`, which has no rule by which `vmap` takes its forward derivative."""

    def forward(self, hidden: Tensor) -> Tensor:
        """h and g side by side, `[..., 2·width]` → `[..., width]`."""
        h, g = hidden.chunk(2, dim=-1)
        return h * torch.sigmoid(g)
