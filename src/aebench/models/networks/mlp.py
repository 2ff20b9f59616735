"""mlp: linear layers with ReLU, or tanh, between them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aebench.config import Network, Settings, Widths
from aebench.models.networks import Shape


class Config(Network):
    """`hidden`: widths of the encoder's hidden layers; the decoder has them in reverse. `activation`: between them."""

    EXAMPLE: ClassVar[Settings] = {"hidden": [16]}

    architecture: Literal["mlp"] = "mlp"
    hidden: Widths
    activation: Literal["relu", "tanh"] = "relu"


def encoder(config: Config, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., D]` → `[..., outputs]`."""
    return nn.Sequential(*layers([math.prod(shape), *config.hidden, outputs], config.activation))


def decoder(config: Config, latent_dim: int, shape: Shape, outputs: int) -> nn.Sequential:
    """`[..., L]` → `[..., outputs·D]`."""
    hidden, values = config.hidden, outputs * math.prod(shape)
    if not hidden or config.activation != "relu":
        return nn.Sequential(*layers([latent_dim, *reversed(hidden), values], config.activation))
    return nn.Sequential(*layers([latent_dim, *reversed(hidden)]), nn.ReLU(inplace=True), Readout(hidden[0], values))


@final
class Readout(nn.Linear):
    """A linear layer behind a ReLU, as `nn.Linear` but for the rounding.

    Samples of one image's code are close together: about a quarter of the ReLU's units are 0 in all of them. Without
    gradients these are left out, and with them a quarter of what takes the most time of an evaluation.
    """

    # Fewer rows than this are not worth a look.
    _ROWS = 256

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., in]`, nowhere negative → `[..., out]`."""
        rows = hidden.shape[:-1].numel()
        if hidden.is_cpu and not torch.is_grad_enabled() and rows >= self._ROWS:
            active = hidden.view(rows, -1).amax(0).nonzero()[:, 0]
            if len(active) < 0.9 * self.in_features:
                return F.linear(hidden.index_select(-1, active), self.weight.index_select(1, active), self.bias)
        return F.linear(hidden, self.weight, self.bias)


@final
class Tanh(nn.Module):
    """tanh by the sigmoid, which is the same on every CPU."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Of each number, `[...]` → `[...]`."""
        return 2 * torch.sigmoid(2 * hidden) - 1


def layers(widths: Sequence[int], activation: str = "relu") -> list[nn.Module]:
    """Linear layers from each width to the next, with an activation between them."""
    made: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        made += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True) if activation == "relu" else Tanh()]
    return made[:-1]
