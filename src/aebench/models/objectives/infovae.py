"""infovae: the InfoVAE with the maximum mean discrepancy (Zhao et al. 2019, L_InfoVAE).

It minimises −E_q log p(x|z) + (1 − α) KL(q(z|x)‖p(z)) + (α + λ − 1) MMD²(q(z), p(z)): α gives back the mutual
information that the divergence takes from the code, and λ matches q(z), of which the batch is a sample, with p(z). With
α = 1 it is the MMD-VAE.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from aebench.config import ObjectiveConfig, Settings, Weight
from aebench.models.divergences import mmd
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.latents import drawn
from aebench.models.objectives import variational_loss


class Config(ObjectiveConfig):
    """`information`: α. `match`: λ. `beta` weighs both terms."""

    EXAMPLE: ClassVar[Settings] = {"information": 0.5, "match": 10.0}
    SMALLEST_BATCH: ClassVar[int] = 2

    objective: Literal["infovae"] = "infovae"
    information: Annotated[float, Field(ge=-1e9, le=1)]
    match: Weight

    @property
    def draws(self) -> tuple[int, ...]:
        """One for the posterior's sample, one that is a sample of the prior."""
        return (2,)

    @property
    def priors(self) -> tuple[str, ...]:
        """That whose samples are the noise."""
        return ("standard_normal",)


def loss(
    config: Config, model: GenerativeModel, prior: Prior, x: Tensor, y: Tensor, noise: Tensor, beta: float
) -> dict[str, Tensor]:
    """The loss, distortion and rate, and MMD², whose value for an image depends on all images of the batch."""
    q, (of_posterior, of_prior) = model.posterior(x, y), noise
    z, log_q = drawn(q, of_posterior)
    terms = variational_loss(q, prior, lambda z: model.likelihood(z, y), x, z, log_q)
    discrepancy = mmd(z, of_prior)
    regulariser = (1 - config.information) * terms["rate_nats"] + (config.information + config.match - 1) * discrepancy
    return {**terms, "loss": terms["distortion_nats"] + beta * regulariser, "mmd": discrepancy}
