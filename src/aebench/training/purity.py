"""What a loss must not do: draw at random by itself, or change the model.

A run could then neither be repeated from its seed nor resumed, and its evaluation would see another model than its
training did.
"""

import torch

from aebench.errors import ConfigError
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.randomness import Streams, generator

_IMAGES = 2


def require_purity(model: Autoencoder, spec: ImageSpec) -> None:
    """Try the loss on a few images, as in training.

    Raises:
        ConfigError: it is no pure function of the weights, the images and their noise.
    """
    x = torch.rand(_IMAGES, spec.pixels, generator=generator("purity"))
    y, before = torch.zeros(_IMAGES, dtype=torch.int64), _state_bytes(model)
    outside = torch.get_rng_state()
    try:
        model.train().loss(x, y, model.noise(torch.arange(_IMAGES), Streams("purity")), epoch=1)
        if torch.get_rng_state().numpy().tobytes() != outside.numpy().tobytes():
            raise ConfigError(
                "found a loss that draws from torch's global generator, as a dropout does, "
                "allowed: what the variant's `noise` has drawn from the run's own"
            )
    finally:
        torch.set_rng_state(outside)
    for name, content in _state_bytes(model).items():
        if content != before[name]:
            raise ConfigError(
                f"found a loss that changes {name}, as a batch norm does in training, "
                "allowed: weights that the optimiser alone changes"
            )


def _state_bytes(model: Autoencoder) -> dict[str, bytes]:
    """Of all weights and buffers, by name."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach().numpy().tobytes() for name, value in held.items()}
