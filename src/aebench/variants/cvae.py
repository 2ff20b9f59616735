"""CVAE: a VAE that learns from labels. `conditioning` says where the label enters.

`class_prior`: the label moves the prior alone, p(z|y) = N(μ_y, I) with learned μ_y, so
KL(q‖p(z|y)) = ½ Σ [(μ − μ_y)² + σ² − log σ² − 1]. Generation picks the class by its mean; without the label the prior
is the mixture Σ_y p(y) N(μ_y, I), with p(y) from the training labels.

`concat`: the label stands beside the inputs of encoder and decoder (Sohn et al. 2015), and the prior is N(0, I) for all
labels.

`learned_prior`: as `concat`, with p(z|y) = N(μ_y, diag σ_y²), mean and variance learned, in place of N(0, I) (Sohn et
al. 2015, eq. 4). What a network could make of a label's one-hot code, a table of its classes can.
"""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from aebench.config import Network, PixelLikelihood, VariantConfig, Weight
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import NormalMixture, UnitNormalMixture, diagonal_normal, reparameterised, unit_normal
from aebench.models.likelihoods import Likelihood, make
from aebench.models.networks import Conditional, decoder, encoder
from aebench.models.objectives import kl_weight, variational_loss
from aebench.randomness import Streams


class Config(VariantConfig, PixelLikelihood):
    """Where the label enters, and the weight of the KL divergence.

    β (Higgins et al. 2017) rises linearly over the warm-up epochs.
    """

    kind: Literal["cvae"]
    conditioning: Literal["class_prior", "concat", "learned_prior"] = "class_prior"
    beta: Weight = 1.0
    beta_warmup_epochs: int = Field(default=0, ge=0, le=100_000_000)


@final
class CVAE(LatentVariableModel):
    """q(z|x, y), p(z|y), p(x|z, y), some of which ignore the label."""

    class_means: Tensor
    log_class_shares: Tensor

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.warmup_epochs = config, config.beta_warmup_epochs
        self.concat = config.conditioning != "class_prior"
        self.moves_prior = config.conditioning != "concat"
        self.conditional_parts = frozenset(("posterior", "likelihood") * self.concat + ("prior",) * self.moves_prior)
        self.classes = len(spec.class_shares)
        to_latents = encoder(network, spec.shape, 2 * network.latent_dim)
        to_pixels = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.encoder = Conditional(to_latents, self.classes) if self.concat else to_latents
        self.decoder = Conditional(to_pixels, self.classes) if self.concat else to_pixels
        self.pixels = make(config.likelihood)
        means = torch.zeros(self.classes, network.latent_dim)
        if self.moves_prior:
            self.class_means = nn.Parameter(means)
        else:
            self.register_buffer("class_means", means, persistent=False)
        if config.conditioning == "learned_prior":
            self.class_log_variances = nn.Parameter(torch.zeros_like(means))
        shares = torch.tensor(spec.class_shares, device="cpu")  # also where the rest is built on no device
        self.register_buffer("log_class_shares", shares.log(), persistent=False)

    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z|y), or without the label its mixture over p(y); N(0, I) where the label does not move it."""
        if self.config.conditioning == "learned_prior":
            if y is None:
                scales = torch.exp(0.5 * self.class_log_variances)
                return NormalMixture(self.class_means, scales, self.log_class_shares)
            return diagonal_normal(self.class_means[y], self.class_log_variances[y])
        if y is None and self.moves_prior:
            return UnitNormalMixture(self.class_means, self.log_class_shares)
        return unit_normal(self.class_means[0 if y is None else y])

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Independent[Normal]:
        """N(μ(x, y), diag σ²(x, y)); the label is ignored where it moves the prior alone.

        Raises:
            TypeError: it is taken, and not given.
        """
        return diagonal_normal(*self._through(self.encoder, x, y).chunk(2, dim=-1))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z, y); the label is ignored where it moves the prior alone.

        Raises:
            TypeError: it is taken, and not given.
        """
        likelihood: Likelihood = self.pixels(self._through(self.decoder, z, y))
        return likelihood

    def _through(self, network: nn.Module, values: Tensor, y: Tensor | None) -> Tensor:
        """`values` `[..., B, ·]` through a network, with the label where it takes one."""
        if self.concat and y is None:
            raise TypeError(f"conditioning {self.config.conditioning}: the encoder and the decoder need the label")
        result: Tensor = network(values, y) if self.concat else network(values)
        return result

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """Standard normal ε for the samples of q(z|x, y): `[B, L]`."""
        return (torch.randn(len(index), self.class_means.shape[-1], generator=streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """−E_q log p(x|z, y) + β KL(q‖p(z|y)): nats, `[B]`."""
        beta = kl_weight(self.config.beta, self.config.beta_warmup_epochs, epoch)
        q, prior = self.posterior(x, y), self.prior(y)
        z = reparameterised(q, *noise)
        return variational_loss(q, prior, lambda z: self.likelihood(z, y), x, z, beta=beta)
