"""p(x|z): what a decoder's output says about an image.

Shapes: an image has D pixels; a likelihood of batch shape `[...]` holds parameters `[..., D]`, and `log_prob` sums
over pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


class Likelihood(ABC):
    """A distribution over images, from the decoder's output."""

    @abstractmethod
    def __init__(self, output: Tensor) -> None:
        """`output` is the decoder's, `[..., D]`."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], `[..., D]`."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x|z) in nats, summed over pixels: x `[..., D]`, broadcast against the parameters → `[...]`."""


class Bernoulli(Likelihood):
    """Independent pixels in {0, 1}, the decoder's output their log-odds.

    For grey pixels in [0, 1] `log_prob` is the negative cross-entropy. That is no normalised likelihood: its integral
    over x is less than one, so such numbers compare only with each other and are labelled wherever they appear.
    """

    def __init__(self, output: Tensor) -> None:
        self.logits = output

    @property
    def mean(self) -> Tensor:
        """The probability of a 1."""
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ x·l − log(1 + e^l), l the log-odds."""
        if torch.is_grad_enabled():
            logits, x = torch.broadcast_tensors(self.logits, x)
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return log_bernoulli(self.logits, x)


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Σ x·l − log(1 + e^l) over the last dimension, fast and without gradients: `[..., D]` → `[...]`.

    x·l − log(1 + e^l) = (x − ½)·l − ½|l| − log(1 + e^−|l|), and the factors 1 + e^−|l| lie in (1, 2]: eight of them are
    multiplied before one logarithm is taken, where a logarithm a pixel would cost as much as the decoder.
    """
    minus_abs = logits.abs().neg_()
    result = torch.linalg.vecdot(logits, x - 0.5) + 0.5 * minus_abs.sum(-1)
    factors = minus_abs.exp_().add_(1)
    for _ in range(3):
        half, odd = divmod(factors.shape[-1], 2)
        if odd:
            break
        factors = factors[..., :half].mul_(factors[..., half:])
    total: Tensor = result - factors.log().sum(-1)
    return total


LIKELIHOODS: Mapping[str, type[Likelihood]] = {"bernoulli": Bernoulli}
