"""HVAE: a VAE with two levels of latents (Tomczak & Welling 2018, §3.2).

p(x, z₁, z₂) = p(z₂) p(z₁|z₂) p(x|z₁, z₂) and q(z₁, z₂|x) = q(z₂|x) q(z₁|x, z₂), eq. 11 and 12: z₁ is nearer to the
image, and the prior that params.yaml names is that of z₂. Both levels are one vector z = (z₁, z₂).
"""

import math
from typing import ClassVar, Literal, final

import torch
from pydantic import SerializeAsAny, model_validator
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aebench.config import Network, ObjectiveConfig, PixelLikelihood, PriorConfig, Settings, VariantConfig, Widths
from aebench.models import likelihoods, objectives, posteriors, priors
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.generative import Prior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import reparameterised
from aebench.models.likelihoods import Likelihood
from aebench.models.networks import Beside, decoder, encoder
from aebench.models.networks.gated_mlp import Weights, layers
from aebench.models.posteriors.diagonal import Config as Diagonal
from aebench.models.posteriors.diagonal import Range
from aebench.randomness import Streams


class Config(VariantConfig, PixelLikelihood):
    """`hidden_of_levels`: widths of the gated layers from z₂ to p(z₁|z₂).

    `log_variances`: between what values those of all Gaussians are kept; null: they are free. The network's
    `latent_dim` is the size of both levels together; z₁ has one more where it is odd.
    """

    EXAMPLE: ClassVar[Settings] = {"hidden_of_levels": [8]}

    kind: Literal["hvae"]
    prior: SerializeAsAny[PriorConfig]
    objective: SerializeAsAny[ObjectiveConfig]
    hidden_of_levels: Widths
    log_variances: Range | None = None

    @model_validator(mode="after")
    def _parts_that_fit(self) -> "Config":
        objective, prior = self.objective, self.prior
        if objective.posteriors or objective.priors:
            needs = ", ".join(objective.posteriors or objective.priors)
            raise ValueError(
                f"objective: found {objective.in_words}, which needs {needs}, "
                "allowed: one that takes any posterior and prior"
            )
        if prior.posteriors and "diagonal" not in prior.posteriors:
            raise ValueError(f"prior: found {prior.prior}, allowed: one that goes with a diagonal posterior")
        if self.log_variances and self.log_variances[0] >= self.log_variances[1]:
            raise ValueError(f"log_variances: found {list(self.log_variances)}, allowed: the smaller number first")
        return self

    def misfit(self, network: Network) -> str:
        """A code has to have a dimension for each level."""
        if network.latent_dim < 2:
            return f"network.latent_dim: found {network.latent_dim} with hvae, allowed: at least 2"
        return ""


@final
class HVAE(LatentVariableModel):
    """z₂ has `upper` dimensions, z₁ `lower`."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.objective, self.warmup_epochs = config.objective, config.objective.beta_warmup_epochs
        self.surrogate_gradient = config.objective.surrogate_gradient
        self.upper = network.latent_dim // 2
        self.lower = network.latent_dim - self.upper
        limits = Diagonal(log_variance_range=config.log_variances)
        self.upper_normal, self.lower_normal = posteriors.make(limits, self.upper), posteriors.make(limits, self.lower)
        self.upper_encoder = encoder(network, spec.shape, self.upper_normal.inputs)
        self.lower_encoder = Beside(encoder(network, spec.shape, self.lower_normal.inputs), self.upper)
        weights: Weights = "he_normal" if getattr(network, "weights", "uniform") == "he_normal" else "uniform"
        self.between = layers([self.upper, *config.hidden_of_levels], self.lower_normal.inputs, weights)
        if weights == "he_normal":  # z₂ is one more input of the first layer
            nn.init.normal_(self.lower_encoder.of_vector.weight, std=math.sqrt(2 / (spec.pixels + self.upper)))
        self.decoder = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.pixels = likelihoods.make(config.likelihood)
        self.to_prior = priors.make(config.prior, self.upper, spec)

    def prior(self, y: Tensor | None = None) -> "TwoLevelPrior":
        """p(z₂) p(z₁|z₂)."""
        return TwoLevelPrior(self, self.to_prior(self.upper_posterior))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> "TwoLevelPosterior":
        """q(z₂|x) q(z₁|x, z₂)."""
        return TwoLevelPosterior(self, x)

    def upper_posterior(self, x: Tensor) -> Independent[Normal]:
        """q(z₂|x)."""
        q: Independent[Normal] = self.upper_normal(self.upper_encoder(x))
        return q

    def lower_prior(self, upper: Tensor) -> Independent[Normal]:
        """p(z₁|z₂) for z₂ `[..., B, L₂]`."""
        p: Independent[Normal] = self.lower_normal(self.between(upper))
        return p

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z₁, z₂)."""
        likelihood: Likelihood = self.pixels(self.decoder(z))
        return likelihood

    def before_training(self, images: Tensor, streams: Streams) -> None:
        """What the prior keeps of them."""
        self.to_prior.before_training(images, streams)

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """Standard normal ε for both levels, `[*draws, B, L]`, and the prior's own."""
        size = (*self.objective.draws, len(index), self.lower + self.upper)
        return (torch.randn(size, generator=streams["noise"]), *self.to_prior.noise(index, streams))

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """That of the objective: nats, `[B]`."""
        epsilon, *of_prior = noise
        prior = TwoLevelPrior(self, self.to_prior.of_batch(self.upper_posterior, *of_prior))
        return objectives.loss(self.objective, self, prior, x, y, epsilon, epoch)


@final
class TwoLevelPrior:
    """p(z₂) p(z₁|z₂)."""

    def __init__(self, model: HVAE, of_upper: Prior) -> None:
        self.model, self.of_upper = model, of_upper

    def log_prob(self, z: Tensor) -> Tensor:
        """`[..., L]` → `[...]`, in nats."""
        lower, upper = z.split([self.model.lower, self.model.upper], dim=-1)
        log_p: Tensor = self.of_upper.log_prob(upper) + self.model.lower_prior(upper).log_prob(lower)
        return log_p

    def sample(self, shape: torch.Size) -> Tensor:
        """`[*shape, L]`, from the top down."""
        upper = self.of_upper.sample(shape)
        return torch.cat([self.model.lower_prior(upper).sample(), upper], dim=-1)


@final
class TwoLevelPosterior:
    """q(z₂|x) q(z₁|x, z₂), which scores its own samples alone."""

    def __init__(self, model: HVAE, x: Tensor) -> None:
        self.model, self.x, self.upper = model, x, model.upper_posterior(x)

    def of(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z|x) in nats, from noise `[..., B, L]`."""
        noise_lower, noise_upper = noise.split([self.model.lower, self.model.upper], dim=-1)
        upper = reparameterised(self.upper, noise_upper)
        of_lower = self.model.lower_normal(self.model.lower_encoder(self.x, upper))
        lower = reparameterised(of_lower, noise_lower)
        return torch.cat([lower, upper], dim=-1), self.upper.log_prob(upper) + of_lower.log_prob(lower)

    def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z ~ q, `[*shape, B, L]`, and log q(z|x), `[*shape, B]`, drawn from torch's global generator."""
        return self.of(torch.randn(*shape, len(self.x), self.model.lower + self.model.upper, device=self.x.device))

    @property
    def mean(self) -> Tensor:
        """E[z₂|x] and, at it, E[z₁|x, z₂], `[B, L]`: the code."""
        upper = self.upper.mean
        return torch.cat([self._lower_mean(upper), upper], dim=-1)

    @property
    def mean_beyond_prior(self) -> Tensor:
        """The same but for what p(z₁|z₂) says of z₁ without the image, `[B, L]`."""
        upper = self.upper.mean
        return torch.cat([self._lower_mean(upper) - self.model.lower_prior(upper).mean, upper], dim=-1)

    def _lower_mean(self, upper: Tensor) -> Tensor:
        mean: Tensor = self.model.lower_normal(self.model.lower_encoder(self.x, upper)).mean
        return mean
