"""VAE: maximise the evidence lower bound (Kingma & Welling 2014) or the importance-weighted one (Burda et al. 2016)."""

from typing import Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.distributions import Independent, Normal

from aebench.config import Network, PixelLikelihood, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import diagonal_normal, reparameterised, unit_normal
from aebench.models.likelihoods import Likelihood, make
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import importance_weighted_loss, kl_weight, variational_loss
from aebench.randomness import Streams


class Config(VariantConfig, PixelLikelihood):
    """What is maximised, and the weight of the KL divergence.

    `objective`: the ELBO, or (`iwae`) the importance-weighted bound from `samples` samples, which has no such weight.
    β (Higgins et al. 2017) rises linearly over the warm-up epochs.
    """

    kind: Literal["vae"]
    objective: Literal["elbo", "iwae"] = "elbo"
    samples: int = Field(default=1, ge=1, le=100_000_000)
    beta: float = Field(default=1.0, ge=0)
    beta_warmup_epochs: int = Field(default=0, ge=0, le=100_000_000)

    @model_validator(mode="after")
    def _one_objective(self) -> "Config":
        if self.objective == "elbo" and self.samples != 1:
            raise ValueError(f"samples: found {self.samples} with objective elbo, allowed: 1, or objective: iwae")
        if self.objective == "iwae":  # it has no KL term to weigh
            for key, value, allowed in (("beta", self.beta, 1), ("beta_warmup_epochs", self.beta_warmup_epochs, 0)):
                if value != allowed:
                    raise ValueError(f"{key}: found {value} with objective iwae, allowed: {allowed}")
        return self


@final
class VAE(LatentVariableModel):
    """q(z|x) = N(μ(x), diag σ²(x)), p(z) = N(0, I)."""

    origin: Tensor

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.warmup_epochs = config, config.beta_warmup_epochs
        self.encoder = encoder(network, spec.shape, 2 * network.latent_dim)
        self.decoder = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.pixels = make(config.likelihood)
        self.register_buffer("origin", torch.zeros(network.latent_dim), persistent=False)

    def prior(self, y: Tensor | None = None) -> Independent[Normal]:
        """N(0, I)."""
        return unit_normal(self.origin)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Independent[Normal]:
        """N(μ(x), diag σ²(x))."""
        return diagonal_normal(*self.encoder(x).chunk(2, dim=-1))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z)."""
        likelihood: Likelihood = self.pixels(self.decoder(z))
        return likelihood

    def noise(self, size: int, streams: Streams) -> Noise:
        """Standard normal ε for the samples of q(z|x): `[B, L]`, or `[k, B, L]` for k samples of `iwae`."""
        samples = (self.config.samples,) if self.config.objective == "iwae" else ()
        return (torch.randn(*samples, size, len(self.origin), generator=streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """−E_q log p(x|z) + β KL(q‖p), or minus the importance-weighted bound: nats, `[B]`."""
        q = self.posterior(x)
        terms = (q, self.prior(), self.likelihood, x, reparameterised(q, *noise))
        if self.config.objective == "iwae":
            return importance_weighted_loss(*terms)
        beta = kl_weight(self.config.beta, self.config.beta_warmup_epochs, epoch)
        return variational_loss(*terms, beta=beta)
