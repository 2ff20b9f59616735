"""Encoder and decoder: shapes only."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def encoder(pixels: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    """`[..., D]` → `[..., out]`: linear layers with ReLU between them."""
    return _layers([pixels, *hidden, out])


def decoder(latent_dim: int, hidden: Sequence[int], pixels: int) -> nn.Sequential:
    """`[..., L]` → `[..., D]`: the encoder's hidden layers in reverse; the output is not squashed."""
    return _layers([latent_dim, *reversed(hidden), pixels])


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
