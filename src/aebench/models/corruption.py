"""Corrupted inputs, for training a DAE and for `denoising_mse`."""

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from aebench.config import Corruption


def apply(x: Tensor, corruption: Corruption, drawn: Tensor) -> Tensor:
    """x̃ `[B, D]` for x `[B, D]` and what `draw` has drawn for it (Vincent et al. 2008, §2.3; Vincent et al. 2010).

    `masking`: exactly ⌊rate·D⌋ pixels of each image, drawn without replacement, become 0.
    `gaussian`: noise whose standard deviation is the rate is added; the result is not clipped.
    """
    return x + corruption.corruption_rate * drawn if corruption.corruption == "gaussian" else x * drawn


def draw(corruption: Corruption, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """What is random in the corruption of images of `shape` `[B, D]`, drawn on the CPU and of that shape.

    `masking`: True where a pixel stays. `gaussian`: standard normal noise.
    """
    if corruption.corruption == "gaussian":
        return torch.randn(shape, generator=generator)
    pixels = shape[-1]
    # A fraction keeps the floor exact: in floats 0.29 × 100 is 28.999….
    masked = int(Fraction(str(corruption.corruption_rate)) * pixels)
    if masked == 0:
        return torch.ones(shape, dtype=torch.bool)
    # The places of the smallest of D independent uniform numbers are a draw without replacement. The place itself, as
    # the last digit, sets equal ones apart. NumPy finds the largest that counts many times as fast as torch's `topk`.
    numbers = torch.empty(shape, dtype=torch.int32).random_(generator=generator).long()
    numbers.mul_(pixels).add_(torch.arange(pixels))
    largest = np.partition(numbers.numpy(), masked - 1, axis=-1)[..., masked - 1 : masked]
    return numbers > torch.from_numpy(largest)
