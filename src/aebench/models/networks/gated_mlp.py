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


class Config(Network):
    """`hidden`: widths of the encoder's hidden layers; the decoder has them in reverse."""

    EXAMPLE: ClassVar[Settings] = {"hidden": [16]}

    architecture: Literal["gated_mlp"] = "gated_mlp"
    hidden: Widths


def encoder(config: Config, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., D]` → `[..., outputs]`."""
    return _layers([math.prod(shape), *config.hidden], outputs)


def decoder(config: Config, latent_dim: int, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., L]` → `[..., outputs·D]`."""
    return _layers([latent_dim, *reversed(config.hidden)], outputs * math.prod(shape))


def _layers(widths: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, width in pairwise(widths):
        layers += [nn.Linear(inputs, 2 * width), Gate()]  # h and g in one product
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


@final
class Gate(nn.Module):
    """h·sigmoid(g), as `nn.GLU`, which has no rule by which `vmap` takes its forward derivative."""

    def forward(self, hidden: Tensor) -> Tensor:
        """h and g side by side, `[..., 2·width]` → `[..., width]`."""
        h, g = hidden.chunk(2, dim=-1)
        return h * torch.sigmoid(g)
