"""Held-out ELBO and importance-weighted log-likelihood, for any model with prior, posterior and likelihood.

Images are taken one at a time: the logits of one image's samples stay in the processor's cache, memory depends neither
on the number of samples nor on the number of images, and no image's value depends on the images beside it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from aebench.models.autoencoder import LatentVariableModel
from aebench.models.objectives import importance_weighted_bound
from aebench.randomness import drawing_from

# Samples that are decoded together: 256 × 784 logits fit the second-level cache.
CHUNK = 256
# Samples that are drawn together.
BLOCK = 1024


@dataclass(frozen=True)
class Bound:
    """What is known of one image's log-likelihood under one prior, in nats.

    `elbo` = −`distortion` − `rate` ≤ log p(x) (Kingma & Welling 2014, eq. 3), with E_q log p(x|z) from the samples
    and the divergence in closed form; `iw_log_likelihood` is log (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q (Burda
    et al. 2016, eq. 8), a lower bound on log p(x) in expectation.
    """

    distortion: float
    rate: float
    iw_log_likelihood: float

    @property
    def elbo(self) -> float:
        """−distortion − rate."""
        return -self.distortion - self.rate


@torch.no_grad()
def bounds(
    model: LatentVariableModel,
    x: Tensor,
    priors: list[Distribution],
    samples: int,
    generator: torch.Generator,
    chunk: int = CHUNK,
) -> list[Bound]:
    """The bounds of one image under each of `priors`, all from the same samples of q(z|x).

    Sharing the samples is exact where neither q(z|x) nor p(x|z) depends on what sets the priors apart.

    Args:
        model: gives q(z|x) and p(x|z).
        x: the image, `[1, D]`.
        priors: batch shape `[]` or `[1]`, event shape `[L]`.
        samples: K, exactly.
        generator: draws this image's samples; the first K are the same whatever K.
        chunk: samples that are decoded together, a divisor of `BLOCK`.
    """
    q = model.posterior(x)
    sum_log_px = 0.0
    log_sums = [torch.tensor(-math.inf, dtype=torch.float64) for _ in priors]
    with drawing_from(generator):
        for start in range(0, samples, BLOCK):
            # The last block comes in whole chunks too: torch draws and multiplies short ones differently.
            used = min(BLOCK, samples - start)
            z = q.rsample((BLOCK,))
            log_px = torch.cat([model.likelihood(part).log_prob(x) for part in z[: _whole(used, chunk)].split(chunk)])
            z, log_px = z[:used], log_px[:used].double()
            log_q = q.log_prob(z)
            sum_log_px += log_px.sum().item()
            for position, prior in enumerate(priors):
                log_weights = log_px + (prior.log_prob(z) - log_q).double()
                log_sum = importance_weighted_bound(log_weights) + math.log(used)
                log_sums[position] = torch.logaddexp(log_sums[position], log_sum.squeeze())
    return [
        Bound(
            distortion=-sum_log_px / samples,
            rate=kl_divergence(q, prior).item(),
            iw_log_likelihood=log_sum.item() - math.log(samples),
        )
        for prior, log_sum in zip(priors, log_sums, strict=True)
    ]


def _whole(samples: int, chunk: int) -> int:
    return -(-samples // chunk) * chunk
