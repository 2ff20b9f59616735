"""The variants: every file here is one, and its name is the `kind` that params.yaml gives."""

import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from operator import mul
from types import ModuleType
from typing import Any

from safetensors.torch import load

from aebench.config import Network, VariantConfig, parse
from aebench.models.autoencoder import Autoencoder, ImageSpec

# Numbers of classes times latent dimensions, of which some variants keep a table; 40 MB.
MOST_MEANS = 10_000_000


@cache
def _modules() -> Mapping[str, ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}") for name in names}


def kinds() -> dict[str, type[VariantConfig]]:
    """For every variant its configuration, the class named `Config` in its file."""
    return {name: module.Config for name, module in _modules().items()}


def build(config: VariantConfig, network: Network, spec: ImageSpec) -> Autoencoder:
    """The model of `config`, on the CPU, its weights drawn from torch's global generator."""
    module = _modules()[config.kind]
    (model,) = (
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Autoencoder) and member.__module__ == module.__name__
    )
    built: Autoencoder = model(config, network, spec)
    return built


def restore(description: Mapping[str, Any], weights: bytes) -> Autoencoder:
    """A trained model in evaluation mode, from the content of its run's `config.json` and `model.safetensors`.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, ConfigError, SafetensorError: they are
            damaged, or of another version.
    """
    config = parse(kinds()[description["model"]["kind"]], description["model"])
    network = parse(Network, description["network"])
    spec = ImageSpec(description["images"]["pixels"], tuple(description["images"]["class_shares"]))
    trained = load(weights)
    # Before memory is taken for a network: what the description says must be in the weights.
    sizes = [spec.pixels, *network.hidden, network.latent_dim]
    stored = sum(weight.numel() for weight in trained.values())
    if sum(map(mul, sizes, sizes[1:])) > stored or len(spec.class_shares) * network.latent_dim > MOST_MEANS:
        raise ValueError(f"the description is of a larger network than the {stored} weights")
    model = build(config, network, spec)
    model.load_state_dict(trained)
    return model.eval()
