"""Encoder and decoder: shapes only."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def encoder(pixels: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    """`[..., D]` → `[..., out]`: linear layers with ReLU between them."""
    return _layers([pixels, *hidden, out])


def decoder(latent_dim: int, hidden: Sequence[int], pixels: int) -> nn.Sequential:
    """`[..., L]` → `[..., D]`: the widths of the encoder's hidden layers in reverse; the output is not squashed."""
    if not hidden:
        return _layers([latent_dim, pixels])
    return nn.Sequential(*_layers([latent_dim, *reversed(hidden)]), nn.ReLU(inplace=True), Readout(hidden[0], pixels))


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
class Conditional(nn.Module):
    """A network that takes a label's one-hot code beside its input.

    The code's columns in the first layer's weights amount to a bias for each class, and are kept as such.
    """

    def __init__(self, network: nn.Sequential, classes: int) -> None:
        """`network` takes the input alone."""
        super().__init__()
        self.network = network
        first = network[0]
        assert isinstance(first, nn.Linear)
        bound = (first.in_features + classes) ** -0.5  # as torch draws the weights of so many inputs
        self.of_class = nn.Parameter(torch.empty(classes, first.out_features).uniform_(-bound, bound))

    def forward(self, values: Tensor, y: Tensor) -> Tensor:
        """`[..., in]` and labels `[...]`, broadcast against each other → `[..., out]`."""
        first, *others = self.network
        hidden: Tensor = first(values) + F.embedding(y, self.of_class)
        for layer in others:
            hidden = layer(hidden)
        return hidden


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
