"""ciwae: a mean of the ELBO and the importance-weighted bound of the same samples (Rainforth et al. 2018)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from aebench.config import Count, Settings
from aebench.models.generative import GenerativeModel, Prior, divergence
from aebench.models.latents import drawn
from aebench.models.objectives import Unweighted, importance_weighted_bound, log_prob


class Config(Unweighted):
    """`samples`: k. `elbo_share`: β of the paper, the weight of the ELBO; the rest is that of the other bound."""

    EXAMPLE: ClassVar[Settings] = {"samples": 3, "elbo_share": 0.5}

    objective: Literal["ciwae"] = "ciwae"
    samples: Count
    elbo_share: Annotated[float, Field(ge=0, le=1)]

    @property
    def draws(self) -> tuple[int, ...]:
        """k for each image."""
        return (self.samples,)


def loss(
    config: Config, model: GenerativeModel, prior: Prior, x: Tensor, y: Tensor, noise: Tensor, beta: float
) -> dict[str, Tensor]:
    """−β (1/k) Σ log w − (1 − β) log (1/k) Σ w, the mean distortion and the rate."""
    q = model.posterior(x, y)
    z, log_q = drawn(q, noise)
    log_px = model.likelihood(z, y).log_prob(x)
    log_ratio = prior.log_prob(z) - (log_prob(q, z) if log_q is None else log_q)
    log_w = log_px + log_ratio
    share = config.elbo_share
    bound = share * log_w.mean(0) + (1 - share) * importance_weighted_bound(log_w)
    return {"loss": -bound, "distortion_nats": -log_px.mean(0), "rate_nats": divergence(q, prior, lambda: log_ratio)}
