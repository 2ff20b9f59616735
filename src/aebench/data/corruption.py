"""Corrupted inputs, for training a DAE and for `denoising_mse`."""

from fractions import Fraction

import torch
from torch import Tensor

from aebench.config import Corruption


def corrupt(x: Tensor, corruption: Corruption, generator: torch.Generator) -> Tensor:
    """x̃ for x `[B, D]` (Vincent et al. 2008, §2.3 and Vincent et al. 2010, §4.1).

    `masking`: exactly ⌊rate·D⌋ pixels of each image, drawn without replacement, become 0.
    `gaussian`: noise whose standard deviation is the rate is added; the result is not clipped.
    """
    if corruption.corruption == "gaussian":
        return x + corruption.corruption_rate * torch.randn(x.shape, generator=generator)
    # A fraction keeps the floor exact: in floats 0.29 × 100 is 28.999….
    masked = int(Fraction(str(corruption.corruption_rate)) * x.shape[-1])
    if masked == 0:
        return x.clone()
    # The places of the smallest of D independent uniform numbers are a draw without replacement.
    places = torch.rand(x.shape, generator=generator).topk(masked, largest=False, sorted=False).indices
    return x.scatter(-1, places, 0.0)
