"""VAE: a prior, a posterior, a likelihood and an objective, each by its name (Kingma & Welling 2014).

As they are by default they are the paper's: N(0, I), a diagonal Gaussian, and the evidence lower bound.
"""

from typing import Literal, final

import torch
from pydantic import SerializeAsAny, model_validator
from torch import Tensor

from aebench.config import (
    Network,
    ObjectiveConfig,
    PixelLikelihood,
    PosteriorConfig,
    PriorConfig,
    VariantConfig,
)
from aebench.models import likelihoods, objectives, posteriors, priors
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.generative import Posterior, Prior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.likelihoods import Likelihood
from aebench.models.networks import decoder, encoder
from aebench.randomness import Streams


class Config(VariantConfig, PixelLikelihood):
    """What it is made of; not every posterior goes with every prior and objective."""

    kind: Literal["vae"]
    prior: SerializeAsAny[PriorConfig]
    posterior: SerializeAsAny[PosteriorConfig]
    objective: SerializeAsAny[ObjectiveConfig]

    @model_validator(mode="after")
    def _parts_that_fit(self) -> "Config":
        prior, posterior, objective = self.prior.prior, self.posterior.posterior, self.objective.in_words
        for key, found, other, allowed in (
            ("posterior", posterior, f"prior {prior}", self.prior.posteriors),
            ("posterior", posterior, f"objective {objective}", self.objective.posteriors),
            ("prior", prior, f"objective {objective}", self.objective.priors),
        ):
            if allowed and found not in allowed:
                raise ValueError(f"{key}: found {found} with {other}, allowed: {', '.join(allowed)}")
        return self


@final
class VAE(LatentVariableModel):
    """q(z|x), p(z), p(x|z)."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__()
        self.objective, self.warmup_epochs = config.objective, config.objective.beta_warmup_epochs
        self.surrogate_gradient = config.objective.surrogate_gradient
        self.latent_dim = network.latent_dim
        self.to_posterior = posteriors.make(config.posterior, network.latent_dim)
        self.encoder = encoder(network, spec.shape, self.to_posterior.inputs)
        self.decoder = decoder(network, spec.shape, config.likelihood.OUTPUTS)
        self.pixels = likelihoods.make(config.likelihood)
        self.to_prior = priors.make(config.prior, network.latent_dim, spec)

    def prior(self, y: Tensor | None = None) -> Prior:
        """p(z)."""
        prior: Prior = self.to_prior(self.posterior)
        return prior

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        """q(z|x)."""
        q: Posterior = self.to_posterior(self.encoder(x))
        return q

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        """p(x|z)."""
        likelihood: Likelihood = self.pixels(self.decoder(z))
        return likelihood

    def before_training(self, images: Tensor, streams: Streams) -> None:
        """What the prior keeps of them."""
        self.to_prior.before_training(images, streams)

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """Standard normal ε for the samples of q(z|x), `[*draws, B, L]`, and the prior's own."""
        epsilon = torch.randn(*self.objective.draws, len(index), self.latent_dim, generator=streams["noise"])
        return (epsilon, *self.to_prior.noise(index, streams))

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """That of the objective: nats, `[B]`."""
        epsilon, *of_prior = noise
        prior = self.to_prior.of_batch(self.posterior, *of_prior)
        return objectives.loss(self.objective, self, prior, x, y, epsilon, epoch)
