"""bernoulli: independent pixels in {0, 1}; the decoder's output is their log-odds l.

For grey pixels in [0, 1] `log_prob` is the negative cross-entropy. That is no normalised likelihood: its integral over
x is less than one, so such numbers compare only with each other and are labelled wherever they appear.
"""

import math
from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from aebench.config import LikelihoodConfig
from aebench.models.likelihoods import Likelihood, PixelDistribution, positive, slope_of_sigmoid


class Config(LikelihoodConfig):
    """`smallest_probability`: ε, where the probabilities of both values of a pixel are kept at least so large."""

    GREY = "cross-entropy on grey pixels: not a normalised likelihood, comparable only with its like"
    BINARIZED = "a likelihood of the binarised pixels"

    likelihood: Literal["bernoulli"] = "bernoulli"
    smallest_probability: Annotated[float, Field(ge=0, lt=0.5)] = 0.0


def make(config: Config) -> PixelDistribution:
    """It learns nothing itself."""
    if config.smallest_probability == 0:
        return PixelDistribution(Bernoulli)
    limit = math.log1p(-config.smallest_probability) - math.log(config.smallest_probability)
    return PixelDistribution(lambda output: Bernoulli(output.clamp(-limit, limit)))


@final
class Bernoulli(Likelihood):
    """Independent pixels in {0, 1} with log-odds l `[..., D]`."""

    def __init__(self, output: Tensor) -> None:
        self.output = output

    @property
    def mean(self) -> Tensor:
        """The probability of a 1, the sigmoid of l, `[..., D]`."""
        return torch.sigmoid(self.output)

    @property
    def curvature(self) -> Tensor:
        """The variance of x, `[..., D]`."""
        return positive(slope_of_sigmoid(self.output))

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ [x·l − log(1 + e^l)] over pixels, in nats."""
        if torch.is_grad_enabled():
            logits, x = torch.broadcast_tensors(self.output, x)
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return log_bernoulli(self.output, x)

    def sample(self) -> Tensor:
        """Zeros and ones, `[..., D]`."""
        return torch.bernoulli(self.mean)


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Σ [x·l − log(1 + e^l)] over the last dimension, in nats, fast and without gradients: `[..., D]` → `[...]`.

    x·l − log(1 + e^l) = (x − ½)·l − ½|l| + log s(|l|) with the sigmoid s, whose values lie in [½, 1]: up to 64 of them
    are multiplied before one logarithm is taken, where a logarithm a pixel would cost as much as the decoder.
    """
    one_image = x.numel() == x.shape[-1]  # whose product with many logits needs no memory for the terms
    result: Tensor = logits @ (x.flatten() - 0.5) if one_image else torch.linalg.vecdot(logits, x - 0.5)
    factors = logits.abs()
    result -= 0.5 * factors.sum(-1)
    factors.sigmoid_()
    for _ in range(6):
        half, odd = divmod(factors.shape[-1], 2)
        if odd:
            break
        factors = factors[..., :half].mul_(factors[..., half:])
    result += factors.log_().sum(-1)
    return result
