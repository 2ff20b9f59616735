"""A VAE with two levels of latents, p(z₂) p(z₁|z₂) p(x|z₁, z₂) (Tomczak & Welling 2018, §3), as one vector (z₁, z₂)."""

from typing import Literal, final

import torch
from torch import Tensor, nn

from aebench.config import Network, PixelLikelihood, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import diagonal_normal, reparameterised, unit_normal
from aebench.models.likelihoods import Likelihood, make
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import variational_loss
from aebench.randomness import Streams


class Config(VariantConfig, PixelLikelihood):
    """Nothing of its own."""

    kind: Literal["two_levels"]


@final
class Prior:
    """p(z₂) = N(0, I), p(z₁|z₂) a Gaussian whose mean and log-variance are linear in z₂."""

    def __init__(self, lower: nn.Linear) -> None:
        self.lower = lower

    def log_prob(self, z: Tensor) -> Tensor:
        """`[..., L]` → `[...]`."""
        lower, upper = z.split([self.lower.out_features // 2, self.lower.in_features], -1)
        given_upper = diagonal_normal(*self.lower(upper).chunk(2, -1))
        return unit_normal(torch.zeros_like(upper)).log_prob(upper) + given_upper.log_prob(lower)

    def sample(self, shape: torch.Size) -> Tensor:
        """`[*shape, L]`."""
        upper = torch.randn(*shape, self.lower.in_features)
        return torch.cat([diagonal_normal(*self.lower(upper).chunk(2, -1)).sample(), upper], -1)


@final
class Posterior:
    """q(z₂|x) q(z₁|x, z₂), drawn one after the other."""

    def __init__(self, of_image: Tensor, lower: nn.Linear) -> None:
        self.of_image, upper = of_image.split([lower.out_features, 2 * lower.in_features], -1)
        self.upper, self.lower = diagonal_normal(*upper.chunk(2, -1)), lower

    def of(self, noise_upper: Tensor, noise_lower: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z|x) of noise `[..., B, L]` for each level."""
        upper = reparameterised(self.upper, noise_upper)
        given_upper = diagonal_normal(*(self.of_image + self.lower(upper)).chunk(2, -1))
        lower = reparameterised(given_upper, noise_lower)
        return torch.cat([lower, upper], -1), self.upper.log_prob(upper) + given_upper.log_prob(lower)

    def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """`[*shape, B, L]` and `[*shape, B]`."""
        batch = (*shape, *self.upper.batch_shape)
        return self.of(torch.randn(*batch, self.lower.in_features), torch.randn(*batch, self.lower.out_features // 2))


@final
class TwoLevels(LatentVariableModel):
    """Half of `latent_dim` for each level."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.upper = network.latent_dim // 2
        self.lower = network.latent_dim - self.upper
        self.encoder = encoder(network, spec.shape, 2 * network.latent_dim)
        self.decoder = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.pixels = make(config.likelihood)
        self.of_prior, self.of_posterior = (nn.Linear(self.upper, 2 * self.lower) for _ in range(2))

    def prior(self, y: Tensor | None = None) -> Prior:
        """p(z₂) p(z₁|z₂)."""
        return Prior(self.of_prior)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        """q(z₂|x) q(z₁|x, z₂)."""
        return Posterior(self.encoder(x), self.of_posterior)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z₁, z₂)."""
        likelihood: Likelihood = self.pixels(self.decoder(z))
        return likelihood

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """ε for each level, z₂ and z₁."""
        return tuple(torch.randn(len(index), level, generator=streams["noise"]) for level in (self.upper, self.lower))

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """The ELBO's negative, its rate from the sample."""
        q = self.posterior(x)
        return variational_loss(q, self.prior(), self.likelihood, x, *q.of(*noise))
