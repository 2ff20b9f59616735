"""iwae: maximise the importance-weighted bound (Burda et al. 2016); `gradient` says how it is followed.

With k samples and weights w_k = p(x, z_k)/q(z_k|x), z_k = z(ε_k, φ), and normalised weights w̃_k:

- `standard`: that of the bound itself;
- `stl`: without the score of q, ∂ log q(z_k|x)/∂φ at a fixed z_k (Roeder et al. 2017). For more than one sample it is
  biased (Tucker et al. 2019, §6.2);
- `dreg`: the doubly reparameterised one, Σ_k w̃_k² (∂ log w_k/∂z_k) (∂z_k/∂φ) (Tucker et al. 2019, eq. 8), which is
  unbiased, and whose noise falls with k where that of `standard` grows beside the gradient (Rainforth et al. 2018).
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import vjp

from aebench.config import Count, Settings
from aebench.models.generative import GenerativeModel, Posterior, Prior, divergence
from aebench.models.latents import drawn, stopped
from aebench.models.likelihoods import Likelihood
from aebench.models.objectives import Unweighted, importance_weighted_bound, importance_weighted_loss


class Config(Unweighted):
    """`samples`: k."""

    EXAMPLE: ClassVar[Settings] = {"samples": 3}

    objective: Literal["iwae"] = "iwae"
    samples: Count = 1
    gradient: Literal["standard", "stl", "dreg"] = "standard"

    @property
    def in_words(self) -> str:
        """With its gradient."""
        return f"{self.objective} with gradient {self.gradient}"

    @property
    def surrogate_gradient(self) -> bool:
        """That of the other two is."""
        return self.gradient != "standard"

    @property
    def draws(self) -> tuple[int, ...]:
        """k for each image."""
        return (self.samples,)

    @property
    def posteriors(self) -> tuple[str, ...]:
        """For the other two gradients, those whose density has parameters that can be held fixed."""
        return () if self.gradient == "standard" else ("diagonal", "full_covariance")


def loss(
    config: Config, model: GenerativeModel, prior: Prior, x: Tensor, y: Tensor, noise: Tensor, beta: float
) -> dict[str, Tensor]:
    """Minus the bound, the mean distortion and the rate; the gradient is that of `config.gradient`."""
    q = model.posterior(x, y)
    z, log_q = drawn(q, noise)
    if config.gradient == "dreg":
        return _doubly_reparameterised(q, prior, lambda z: model.likelihood(z, y), x, z)
    if config.gradient == "stl":
        log_q = stopped(q).log_prob(z)
    return importance_weighted_loss(q, prior, lambda z: model.likelihood(z, y), x, z, log_q)


def _doubly_reparameterised(
    q: Posterior, prior: Prior, likelihood: Callable[[Tensor], Likelihood], x: Tensor, z: Tensor
) -> dict[str, Tensor]:
    """The value of the bound with another gradient: that of Σ_k w̃_k log w_k at fixed z, and by z the one above."""
    fixed = stopped(q)

    def log_weights(z: Tensor) -> tuple[Tensor, Tensor]:
        log_px = likelihood(z).log_prob(x)
        return log_px + prior.log_prob(z) - fixed.log_prob(z), log_px

    log_w, pull, log_px = vjp(log_weights, z.detach(), has_aux=True)  # type: ignore[misc]
    shares = log_w.detach().softmax(0)
    (slope,) = pull(torch.ones_like(log_w))
    along_samples = (shares.square().unsqueeze(-1) * slope.detach() * z).sum((0, -1))
    surrogate = (shares * log_w).sum(0) + along_samples
    bound = importance_weighted_bound(log_w.detach()) + surrogate - surrogate.detach()
    rate = divergence(q, prior, lambda: log_w - log_px)
    return {"loss": -bound, "distortion_nats": -log_px.mean(0), "rate_nats": rate}
