"""log p̂(x) as papers on 8-bit images give it (Theis et al. 2016, §3.1)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Looseness, Measured, Metric, own_likelihood

if TYPE_CHECKING:
    from aebench.evaluation.context import Context


def _bits_of_a_nat(shape: Sequence[int]) -> float:
    """What a nat of an image is in bits a dimension."""
    from aebench.models.objectives import bits_per_dimension

    return bits_per_dimension(-1.0, math.prod(shape))


METRICS = (
    Metric(
        *("bits_per_dimension", "bits a dimension", "bits", "↓", own_likelihood),
        digits=3,
        place=45,
        looseness=Looseness("bound_gap_nats", _bits_of_a_nat),
    ),
)


def not_defined(context: "Context") -> dict[str, str]:
    """Without a prior, and where p(x|z) is no probability of 8-bit pixels."""
    if context.no_prior:
        return {"bits_per_dimension": context.no_prior}
    if context.likelihood is None or not context.likelihood.OF_8_BITS:
        return {"bits_per_dimension": "its p(x|z) is no probability of the 256 values of an 8-bit pixel"}
    return {}


def measure(context: "Context") -> Measured:
    """−log p̂(x) / (D ln 2) of each image, D = C·H·W."""
    from aebench.models.objectives import bits_per_dimension

    log_px = context.bounds[0]["iw_log_likelihood_nats"]
    return Measured({"bits_per_dimension": bits_per_dimension(log_px, math.prod(context.splits.shape))})
