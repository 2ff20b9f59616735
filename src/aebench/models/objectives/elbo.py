"""elbo: maximise the evidence lower bound (Kingma & Welling 2014), its divergence weighted (Higgins et al. 2017)."""

from typing import Literal

from pydantic import model_validator
from torch import Tensor

from aebench.config import Count, ObjectiveConfig
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.latents import drawn
from aebench.models.objectives import variational_loss


class Config(ObjectiveConfig):
    """`samples`: of an image; it takes one."""

    objective: Literal["elbo"] = "elbo"
    samples: Count = 1

    @model_validator(mode="after")
    def _one_sample(self) -> "Config":
        if self.samples != 1:
            raise ValueError(f"samples: found {self.samples} with objective elbo, allowed: 1, or objective: iwae")
        return self


def loss(
    config: Config, model: GenerativeModel, prior: Prior, x: Tensor, y: Tensor, noise: Tensor, beta: float
) -> dict[str, Tensor]:
    """−E_q log p(x|z) + β KL(q‖p), and its two parts."""
    q = model.posterior(x, y)
    return variational_loss(q, prior, lambda z: model.likelihood(z, y), x, *drawn(q, noise), beta=beta)
