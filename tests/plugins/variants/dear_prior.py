"""A VAE whose prior is the mean of q(z|u) over learned pseudo-inputs u (Tomczak & Welling 2018): dear to make."""

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from aebench.config import Network, PixelLikelihood, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import diagonal_normal, reparameterised
from aebench.models.likelihoods import Likelihood, make
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import variational_loss
from aebench.randomness import Streams

PSEUDO_INPUTS = 7


class Config(VariantConfig, PixelLikelihood):
    """Nothing of its own."""

    kind: Literal["dear_prior"]


@final
class DearPrior(LatentVariableModel):
    """q(z|x) = N(μ(x), diag σ²(x)), p(z) a mixture of q(z|u)."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.latent_dim = network.latent_dim
        self.encoder = encoder(network, spec.shape, 2 * network.latent_dim)
        self.decoder = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.pixels = make(config.likelihood)
        self.pseudo_inputs = nn.Parameter(torch.rand(PSEUDO_INPUTS, spec.pixels))

    def prior(self, y: Tensor | None = None) -> Distribution:
        """(1/U) Σ_u q(z|u)."""
        return MixtureSameFamily(
            Categorical(torch.ones(PSEUDO_INPUTS), validate_args=False),
            self.posterior(self.pseudo_inputs.clamp(0, 1)),
            validate_args=False,
        )

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Independent[Normal]:
        """N(μ(x), diag σ²(x))."""
        return diagonal_normal(*self.encoder(x).chunk(2, dim=-1))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z)."""
        likelihood: Likelihood = self.pixels(self.decoder(z))
        return likelihood

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """ε, `[B, L]`."""
        return (torch.randn(len(index), self.latent_dim, generator=streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """The ELBO's negative, its rate from the sample."""
        q = self.posterior(x)
        return variational_loss(q, self.prior(), self.likelihood, x, reparameterised(q, *noise))
