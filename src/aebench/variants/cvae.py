"""CVAE: a VAE whose prior the label moves, p(z|y) = N(μ_y, I) with learned μ_y.

KL(q‖p(z|y)) = ½ Σ [(μ − μ_y)² + σ² − log σ² − 1]. Generation picks the class by its mean. Encoder and decoder do not
see the label; without it the prior is the mixture Σ_y p(y) N(μ_y, I), with p(y) from the training labels.
"""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from aebench.config import Network, VariantConfig
from aebench.models.autoencoder import ImageSpec, LatentVariableModel
from aebench.models.latents import diagonal_normal, normal_mixture, unit_normal
from aebench.models.likelihoods import LIKELIHOODS, Likelihood
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import variational_loss, warmed_up
from aebench.randomness import Streams


class Config(VariantConfig):
    """β weighs the KL divergence and rises linearly over the warm-up epochs."""

    kind: Literal["cvae"]
    conditioning: Literal["class_prior"] = "class_prior"
    likelihood: Literal["bernoulli"] = "bernoulli"
    beta: float = Field(default=1.0, ge=0)
    beta_warmup_epochs: int = Field(default=0, ge=0)


@final
class CVAE(LatentVariableModel):
    """q(z|x) = N(μ(x), diag σ²(x)), p(z|y) = N(μ_y, I)."""

    label_enters = frozenset({"prior"})
    log_class_shares: Tensor

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(spec.pixels, network.hidden, 2 * network.latent_dim)
        self.decoder = decoder(network.latent_dim, network.hidden, spec.pixels)
        self.class_means = nn.Parameter(torch.zeros(len(spec.class_shares), network.latent_dim))
        self.register_buffer("log_class_shares", torch.tensor(spec.class_shares).log(), persistent=False)

    def prior(self, y: Tensor | None = None) -> Distribution:
        """N(μ_y, I), or without the label its mixture over p(y)."""
        if y is None:
            return normal_mixture(self.class_means, self.log_class_shares)
        return unit_normal(self.class_means[y])

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Independent[Normal]:
        """N(μ(x), diag σ²(x)), with or without the label."""
        return diagonal_normal(*self.encoder(x).chunk(2, dim=-1))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z), with or without the label."""
        return LIKELIHOODS[self.config.likelihood](self.decoder(z))

    def loss(self, x: Tensor, y: Tensor, *, epoch: int | None, streams: Streams) -> dict[str, Tensor]:
        """−E_q log p(x|z) + β KL(q‖p(z|y))."""
        beta = warmed_up(self.config.beta, self.config.beta_warmup_epochs, epoch)
        return variational_loss(self.posterior(x), self.prior(y), self.likelihood, x, streams["noise"], beta)

    def encode(self, x: Tensor) -> Tensor:
        """μ(x)."""
        return self.posterior(x).mean

    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z = μ(x)]."""
        return self.likelihood(self.encode(x)).mean
