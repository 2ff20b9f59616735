"""miwae: the mean of several importance-weighted bounds (Rainforth et al. 2018).

With m bounds of k samples each the gradient of the encoder has the noise of m·k samples and the strength of k; `iwae`
is that of one bound.
"""

from typing import ClassVar, Literal

from torch import Tensor

from aebench.config import Count, Settings
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.latents import drawn
from aebench.models.objectives import Unweighted, importance_weighted_loss


class Config(Unweighted):
    """`bounds`: m. `samples_a_bound`: k."""

    EXAMPLE: ClassVar[Settings] = {"bounds": 2, "samples_a_bound": 3}

    objective: Literal["miwae"] = "miwae"
    bounds: Count
    samples_a_bound: Count

    @property
    def draws(self) -> tuple[int, ...]:
        """k·m."""
        return (self.samples_a_bound, self.bounds)


def loss(
    config: Config, model: GenerativeModel, prior: Prior, x: Tensor, y: Tensor, noise: Tensor, beta: float
) -> dict[str, Tensor]:
    """−(1/m) Σ log (1/k) Σ w, the mean distortion and the rate."""
    q = model.posterior(x, y)
    z, log_q = drawn(q, noise)
    terms = importance_weighted_loss(q, prior, lambda z: model.likelihood(z, y), x, z, log_q)
    return {name: values if values.dim() == 1 else values.mean(0) for name, values in terms.items()}
