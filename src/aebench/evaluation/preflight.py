"""What would end an evaluation for the models' sake, found before anything is trained."""

import torch

from aebench.config import Params
from aebench.errors import ConfigError
from aebench.evaluation.marginal import Marginal
from aebench.evaluation.proposals.refined import require_diagonal_gaussian
from aebench.models.autoencoder import ImageSpec
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.networks.mlp import Config
from aebench.randomness import drawing_from, generator
from aebench.variants import build

# Of which family a posterior is depends neither on the images nor on the network, and no memory is taken to see it.
_IMAGES = ImageSpec((1, 1, 1), (0.5, 0.5))


def require_refinable(params: Params) -> None:
    """Look whether every variant's q(z|x) can be refined.

    Raises:
        ConfigError: one is no Gaussian with a diagonal covariance.
    """
    for variant in params.variants:
        run = params.run(variant)
        with drawing_from(generator("preflight")), torch.device("meta"):
            model = build(run.model, Config(hidden=(), latent_dim=run.network.latent_dim), _IMAGES)
            if isinstance(model, LatentVariableModel):
                try:
                    require_diagonal_gaussian(Marginal(model).amortised(torch.zeros(1, _IMAGES.pixels)).q)
                except ConfigError as error:
                    raise ConfigError(f"{error}; it is that of {variant}") from None
