"""A VAE whose q(z|x) is one step of an inverse autoregressive flow (Kingma et al. 2016): it scores its own samples."""

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from aebench.config import Network, PixelLikelihood, VariantConfig
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import UnitNormalMixture, unit_normal
from aebench.models.likelihoods import Likelihood, make
from aebench.models.networks import decoder, encoder
from aebench.models.objectives import variational_loss
from aebench.randomness import Streams


class Config(VariantConfig, PixelLikelihood):
    """`class_prior`: whether the label moves the prior."""

    kind: Literal["flow"]
    class_prior: bool = False


@final
class Posterior:
    """z = μ + σ·(ε ⊙ exp(s) + m), where s and m of a dimension come from ε of the dimensions before it."""

    def __init__(self, mean: Tensor, log_scale: Tensor, before: Tensor) -> None:
        self.loc, self.log_scale, self.before = mean, log_scale, before

    def of(self, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z|x) of noise `[..., B, L]`."""
        shift, log_factor = (torch.tanh(epsilon) @ self.before.T).tanh().chunk(2, -1)
        z = self.loc + self.log_scale.exp() * (epsilon * log_factor.exp() + shift)
        of_noise = unit_normal(torch.zeros_like(epsilon[0])).log_prob(epsilon)
        return z, of_noise - (log_factor + self.log_scale).sum(-1)

    def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """`[*shape, B, L]` and `[*shape, B]`."""
        return self.of(torch.randn(*shape, *self.loc.shape))


@final
class Flow(LatentVariableModel):
    """p(z) = N(0, I), or p(z|y) = N(μ_y, I)."""

    class_means: Tensor
    mask: Tensor

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        latents = network.latent_dim
        self.encoder = encoder(network, spec.shape, 2 * latents)
        self.decoder = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.pixels = make(config.likelihood)
        self.before = nn.Parameter(0.3 * torch.randn(2 * latents, latents))
        self.register_buffer("mask", torch.ones(latents, latents).tril(-1).repeat(2, 1), persistent=False)
        means = torch.zeros(len(spec.class_shares), latents)
        if config.class_prior:
            self.conditional_parts, self.class_means = frozenset({"prior"}), nn.Parameter(means)
        else:
            self.register_buffer("class_means", means, persistent=False)
        shares = torch.tensor(spec.class_shares, device="cpu")
        self.register_buffer("log_class_shares", shares.log(), persistent=False)

    def prior(self, y: Tensor | None = None) -> Distribution:
        """N(μ_y, I), or without the label its mixture over p(y); N(0, I) where no label moves it."""
        if y is None and self.conditional_parts:
            return UnitNormalMixture(self.class_means, self.log_class_shares)
        return unit_normal(self.class_means[0 if y is None else y])

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        """q(z|x)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return Posterior(mean, 0.5 * log_variance, self.before * self.mask)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z)."""
        likelihood: Likelihood = self.pixels(self.decoder(z))
        return likelihood

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """ε, `[B, L]`."""
        return (torch.randn(len(index), self.class_means.shape[-1], generator=streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """The ELBO's negative, its rate from the sample."""
        q = self.posterior(x)
        return variational_loss(q, self.prior(y), self.likelihood, x, *q.of(*noise))
