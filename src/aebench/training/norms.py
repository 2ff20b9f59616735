"""Norms of gradients: of a run, or of each of several runs whose weights are stacked."""

from collections.abc import Sequence

import torch
from torch import Tensor


def clipped(gradients: Sequence[Tensor], most: float, stacked: bool) -> tuple[Tensor, ...]:
    """Gradients whose norm, that of all parameters together, is at most `most`, for each run (Pascanu et al. 2013)."""
    norm = torch.stack([squared_norms(gradient, stacked) for gradient in gradients]).sum(0).sqrt()
    shares = (most / (norm + 1e-6)).clamp(max=1.0)
    return tuple(gradient * of_each_run(shares, gradient) for gradient in gradients)


def squared_norms(gradient: Tensor, stacked: bool) -> Tensor:
    """‖g‖² of a gradient, `[…]` → `[]`, or of that of each run, `[S, …]` → `[S]`."""
    squares = gradient.square()
    return squares.reshape(len(squares), -1).sum(1) if stacked else squares.sum()


def of_each_run(values: Tensor, gradient: Tensor) -> Tensor:
    """`[S]` → `[S, 1, …]`, to be multiplied with a gradient `[S, …]`; a number `[]` stays as it is."""
    return values.view(*values.shape, *[1] * (gradient.dim() - 1)) if values.dim() else values
