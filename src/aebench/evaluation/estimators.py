"""Importance sampling, for any q, p(z) and p(x|z): a label, if there is one, is not seen here.

Shapes: B images of D pixels, latents of L dimensions, K samples. On the CPU B is 1: the logits of one image's samples
stay in the processor's cache, memory depends neither on the number of images nor, but for the weights themselves, on
the number of samples, and no image's value depends on the images beside it. A GPU, which one image cannot fill, takes a
group of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aebench.models.generative import Posterior, Prior, rsample_and_log_prob
from aebench.models.likelihoods import Likelihood
from aebench.models.objectives import importance_weighted_bound
from aebench.randomness import drawing_from

# Samples that are decoded together on the CPU: more would not leave the processor's cache, fewer would not fill its
# units.
CHUNK = 512
# Logits that are computed together on a GPU.
LOGITS = 2**26
# Samples of an image that are drawn together.
BLOCK = 1024
# Samples of one image are drawn and decoded in multiples of this: torch draws and multiplies few rows differently.
ROWS = 32


@dataclass(frozen=True)
class Draws:
    """K importance samples of each of B images, in nats: float64, `[K, B]`, on the CPU, in an exchangeable order.

    `log_px_given_z`: log p(x|z_k). `log_weights`: log p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q.
    """

    log_px_given_z: Tensor
    log_weights: Tensor

    @property
    def distortion(self) -> Tensor:
        """−E_q log p(x|z), `[B]`."""
        return -self.log_px_given_z.mean(0)

    @property
    def log_ratio(self) -> Tensor:
        """log p(z_k) / q(z_k|x), `[K, B]`."""
        return self.log_weights - self.log_px_given_z

    @property
    def iw_log_likelihood(self) -> Tensor:
        """log (1/K) Σ_k w_k, `[B]` (Burda et al. 2016, eq. 8): in expectation a lower bound on log p(x)."""
        return importance_weighted_bound(self.log_weights)


def chunk_size(x: Tensor) -> int:
    """How many samples of each of the images `[B, D]` are decoded together."""
    return max(1, CHUNK // len(x) if x.is_cpu else LOGITS // x.numel())


@torch.no_grad()
def draws(
    q: Posterior,
    priors: Sequence[Prior],
    likelihood: Callable[[Tensor], Likelihood],
    x: Tensor,
    samples: int,
    generator: torch.Generator,
) -> list[Draws]:
    """K = `samples` samples of q, weighted under each of `priors`; the first K are the same whatever K.

    Args:
        q: of batch shape `[B]`.
        priors: each gives `Draws` of its own, from the same z.
        likelihood: p(x|z) for z `[k, B, L]`.
        x: `[B, D]`.
        samples: K.
        generator: draws them.
    """
    log_probs = x.new_empty(1 + len(priors), samples, len(x), dtype=torch.float64)
    with drawing_from(generator):
        for start in range(0, samples, BLOCK):
            used = min(BLOCK, samples - start)
            drawn = -(-used // ROWS) * ROWS if len(x) == 1 else used
            z, log_q = rsample_and_log_prob(q, (drawn,), scored=used)
            log_px = torch.cat([likelihood(part).log_prob(x) for part in z.split(chunk_size(x))])
            block = slice(start, start + used)
            log_probs[0, block] = log_px[:used]
            for values, prior in zip(log_probs[1:], priors, strict=True):
                values[block] = prior.log_prob(z[:used]) - log_q
    log_px, *log_ratios = log_probs.cpu()
    return [Draws(log_px, log_px + log_ratio) for log_ratio in log_ratios]
