"""The networks: every file here is one, and its name is the `architecture` that params.yaml gives under `network`.

A file holds `Config`, an `aebench.config.Network` with the network's own settings, and two functions:

- `encoder(config, shape, outputs)` from images to what a posterior is made of, `[..., D]` → `[..., outputs]`;
- `decoder(config, latent_dim, shape, outputs)` back to pixels, `[..., L]` → `[..., outputs·D]`, not squashed.

An image of shape (C, H, W) is a vector of D = C·H·W pixels wherever a network begins or ends, with any number of batch
dimensions before it. Both functions give an `nn.Sequential` whose first layer with weights is an `nn.Linear` or an
`nn.Conv2d`: that is where a label enters.
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aebench.config import Network
from aebench.plugins import configurations, modules

Shape = tuple[int, int, int]
"""Of an image: (C, H, W)."""


def architectures() -> dict[str, type[Network]]:
    """For every network its configuration, the class named `Config` in its file."""
    return configurations(__name__, Network, "encoder", "decoder")


def encoder(config: Network, shape: Shape, outputs: int) -> nn.Sequential:
    """Images `[..., D]` → `[..., outputs]`; `Conditional` makes it take labels too."""
    network: nn.Sequential = modules(__name__)[config.architecture].encoder(config, shape, outputs)
    return network


def decoder(config: Network, shape: Shape, outputs: int = 1) -> nn.Sequential:
    """Codes `[..., L]` → `outputs` values a pixel, `[..., outputs·D]`; `Conditional` makes it take labels too."""
    network: nn.Sequential = modules(__name__)[config.architecture].decoder(config, config.latent_dim, shape, outputs)
    return network


class _Entrance(nn.Module):
    """A network to whose first layer's output something is added: what stands beside its input."""

    def __init__(self, network: nn.Sequential) -> None:
        """`network` takes the input alone.

        Raises:
            TypeError: its first layer with weights is neither linear nor a convolution.
        """
        super().__init__()
        self.network = network
        self._first = next(place for place, layer in enumerate(network) if any(True for _ in layer.parameters()))
        first = network[self._first]
        if not isinstance(first, nn.Linear | nn.Conv2d):
            raise TypeError(f"a label enters by an nn.Linear or an nn.Conv2d, found {type(first).__name__} at first")
        self._outputs, self._inputs = first.weight.shape[0], first.weight[0].numel()
        self._of_pixel = (None,) * (first.weight.dim() - 2)

    def _entered(self, values: Tensor, beside: Tensor) -> Tensor:
        """`[..., in]`, and what is added to each of the first layer's outputs, `[..., outputs]` → `[..., out]`."""
        hidden = values
        for place, layer in enumerate(self.network):
            hidden = layer(hidden)
            if place == self._first:
                hidden = hidden + beside[(..., *self._of_pixel)]
        return hidden


@final
class Conditional(_Entrance):
    """A network that takes a label's one-hot code beside its input.

    The code's columns in the first layer's weights amount to a bias for each class, and are kept as such; beside an
    image that goes into a convolution the code stands as planes, one a class, whose kernels have one pixel.
    """

    def __init__(self, network: nn.Sequential, classes: int) -> None:
        """`network` takes the input alone.

        Raises:
            TypeError: its first layer with weights is neither linear nor a convolution.
        """
        super().__init__(network)
        bound = (self._inputs + classes) ** -0.5  # as torch draws the weights of so many inputs
        self.of_class = nn.Parameter(torch.empty(classes, self._outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor, y: Tensor) -> Tensor:
        """`[..., in]` and labels `[...]`, broadcast against each other → `[..., out]`."""
        return self._entered(values, F.embedding(y, self.of_class))


@final
class Beside(_Entrance):
    """A network that takes a vector beside its input, as `Conditional` takes a label."""

    def __init__(self, network: nn.Sequential, size: int) -> None:
        """`size`: of the vector.

        Raises:
            TypeError: the network's first layer with weights is neither linear nor a convolution.
        """
        super().__init__(network)
        self.of_vector = nn.Linear(size, self._outputs, bias=False)

    def forward(self, values: Tensor, vector: Tensor) -> Tensor:
        """`[..., in]` and `[..., size]`, broadcast against each other → `[..., out]`."""
        return self._entered(values, self.of_vector(vector))
