"""Divergences between two samples, for objectives that match the codes of a batch with a prior."""

import torch
from torch import Tensor


def mmd(codes: Tensor, prior_samples: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two samples, as one number an image whose mean is the U-statistic.

    The kernel is the inverse multiquadratic C / (C + ‖z − z'‖²) with C = 2L, the mean squared distance of two samples
    of N(0, I) (Tolstikhin et al. 2018, §4). The U-statistic is unbiased (Gretton et al. 2012, eq. 3), so it may be
    negative. An image's number is the mean of the kernel over the other codes, plus that of a prior sample over the
    others, minus those between the two samples:

        h_i = 1/(B−1) Σ_{j≠i} [k(z_i, z_j) + k(p_i, p_j)] − 1/B Σ_j [k(z_i, p_j) + k(p_i, z_j)]

    Args:
        codes: z `[B, L]`.
        prior_samples: p `[B, L]`, as many.

    Returns:
        `[B]`. One image has no others, hence nothing to compare: 0.
    """
    count = len(codes)
    if count == 1:
        return torch.zeros_like(codes[:, 0])
    prior_samples = prior_samples.to(codes)
    others = 1 - torch.eye(count).to(codes)
    within = (_kernel(codes, codes) + _kernel(prior_samples, prior_samples)) * others
    across = _kernel(codes, prior_samples)
    return within.sum(-1) / (count - 1) - across.mean(1) - across.mean(0)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """k(a_i, b_j) for a `[A, L]` and b `[B, L]`: `[A, B]`."""
    scale = 2 * a.shape[-1]
    squared_distance = a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T
    return scale / (scale + squared_distance)
