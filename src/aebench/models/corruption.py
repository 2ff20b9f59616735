"""Corrupted inputs, for training a DAE and for `denoising_mse`."""

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from aebench.config import Corruption


def apply(x: Tensor, corruption: Corruption, drawn: Tensor) -> Tensor:
    """x̃ `[B, D]` for x `[B, D]` and what `draw` has drawn for it (Vincent et al. 2008, §2.3; Vincent et al. 2010).

    `masking`: exactly ⌊rate·D⌋ pixels of each image, drawn without replacement, become 0.
    `salt_and_pepper`: so many, drawn alike, become 0 or 1, as a fair coin decides for each.
    `gaussian`: noise whose standard deviation is the rate is added; the result is not clipped.
    """
    if corruption.corruption == "gaussian":
        return x + corruption.corruption_rate * drawn
    if corruption.corruption == "masking":
        return x * drawn
    return torch.where(drawn == 0, x, (drawn > 0).to(x))


def draw(corruption: Corruption, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """What is random in the corruption of images of `shape` `[B, D]`, drawn on the CPU and of that shape.

    `masking`: True where a pixel stays. `salt_and_pepper`: 0 where it stays, 1 where it becomes 1, −1 where it becomes
    0. `gaussian`: standard normal noise.
    """
    if corruption.corruption == "gaussian":
        return torch.randn(shape, generator=generator)
    stays = _stays(corruption.corruption_rate, shape, generator)
    if corruption.corruption == "masking":
        return stays
    salt = torch.rand(shape, generator=generator) < 0.5
    return torch.where(stays, 0, torch.where(salt, 1, -1)).to(torch.int8)


def _stays(rate: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """False for exactly ⌊rate·D⌋ pixels of each image, `[B, D]`, drawn without replacement."""
    pixels = shape[-1]
    # A fraction keeps the floor exact: in floats 0.29 × 100 is 28.999….
    masked = int(Fraction(str(rate)) * pixels)
    if masked == 0:
        return torch.ones(shape, dtype=torch.bool)
    # The places of the smallest of D independent uniform numbers are a draw without replacement. The place itself, as
    # the last digit, sets equal ones apart. NumPy finds the largest that counts many times as fast as torch's `topk`.
    numbers = torch.empty(shape, dtype=torch.int32).random_(generator=generator).long()
    numbers.mul_(pixels).add_(torch.arange(pixels))
    largest = np.partition(numbers.numpy(), masked - 1, axis=-1)[..., masked - 1 : masked]
    return numbers > torch.from_numpy(largest)
