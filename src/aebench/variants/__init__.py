"""The variants: every file here is one, and its name is the `kind` that params.yaml gives."""

import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType

from aebench.config import Network, VariantConfig
from aebench.models.autoencoder import Autoencoder, ImageSpec


@cache
def _modules() -> Mapping[str, ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}") for name in names}


def kinds() -> dict[str, type[VariantConfig]]:
    """For every variant its configuration, the class named `Config` in its file."""
    return {name: module.Config for name, module in _modules().items()}


def build(config: VariantConfig, network: Network, spec: ImageSpec) -> Autoencoder:
    """The model of `config`, its weights drawn from torch's global generator."""
    module = _modules()[config.kind]
    (model,) = (
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Autoencoder) and member.__module__ == module.__name__
    )
    built: Autoencoder = model(config, network, spec)
    return built
