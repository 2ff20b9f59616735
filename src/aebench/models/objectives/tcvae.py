"""tcvae: the β-TCVAE (Chen et al. 2018), which weighs the three parts of the divergence by themselves.

E KL(q(z|x)‖p(z)) = I(x; z) + KL(q(z) ‖ Π_d q(z_d)) + Σ_d KL(q(z_d) ‖ p(z_d)): mutual information, total correlation,
dimension-wise divergence (eq. 2). q(z) is taken to be the mean of q(z|x) over the batch. The paper's estimate divides
by the number of training images as well (eq. S6); that shifts the parts by constants, and no gradient.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from aebench.config import ObjectiveConfig, Settings, Weight
from aebench.models.generative import GenerativeModel, Prior
from aebench.models.latents import drawn, log_normal
from aebench.models.objectives import variational_loss


class Config(ObjectiveConfig):
    """`total_correlation_weight`: β of the paper. `beta` weighs all three parts."""

    EXAMPLE: ClassVar[Settings] = {"total_correlation_weight": 6.0}
    SMALLEST_BATCH: ClassVar[int] = 2

    objective: Literal["tcvae"] = "tcvae"
    total_correlation_weight: Weight

    @property
    def posteriors(self) -> tuple[str, ...]:
        """Those that fall into dimensions."""
        return ("diagonal",)

    @property
    def priors(self) -> tuple[str, ...]:
        """Those that are a product over dimensions: of any other the third part would be no divergence."""
        return ("standard_normal",)


def loss(
    config: Config, model: GenerativeModel, prior: Prior, x: Tensor, y: Tensor, noise: Tensor, beta: float
) -> dict[str, Tensor]:
    """−E_q log p(x|z) + β (I + w·TC + Σ_d KL_d), and its parts; the three parts depend on all images of the batch."""
    q = model.posterior(x, y)
    assert isinstance(q, Independent)
    assert isinstance(q.base_dist, Normal)
    z, _ = drawn(q, noise)
    terms = variational_loss(q, prior, lambda z: model.likelihood(z, y), x, z)
    # Each sample under the posterior of each image, dimension by dimension: [B, B, L].
    each = log_normal(z.unsqueeze(1), q.base_dist.loc, q.base_dist.scale)
    log_count = math.log(len(z))
    log_q_of_batch = torch.logsumexp(each.sum(-1), dim=1) - log_count
    log_q_of_dimensions = (torch.logsumexp(each, dim=1) - log_count).sum(-1)
    mutual_information = q.log_prob(z) - log_q_of_batch
    total_correlation = log_q_of_batch - log_q_of_dimensions
    dimension_wise = log_q_of_dimensions - prior.log_prob(z)
    weighted = mutual_information + config.total_correlation_weight * total_correlation + dimension_wise
    return {
        **terms,
        "loss": terms["distortion_nats"] + beta * weighted,
        "mutual_information_nats": mutual_information,
        "total_correlation_nats": total_correlation,
        "dimension_wise_nats": dimension_wise,
    }
