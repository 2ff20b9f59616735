"""The variants: every file here is one, and its name is the `kind` that params.yaml gives."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load

from aebench.config import Network, PixelLikelihood, VariantConfig
from aebench.errors import ConfigError, UserError
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.likelihoods import likelihoods
from aebench.models.networks import architectures
from aebench.models.objectives import objectives
from aebench.models.posteriors import posteriors
from aebench.models.priors import priors
from aebench.parsing import Registries, parse_named, parse_with_parts
from aebench.plugins import configurations, modules


def kinds() -> dict[str, type[VariantConfig]]:
    """For every variant its configuration, the class named `Config` in its file."""
    return configurations(__name__, VariantConfig)


def configuration(block: object, where: str = "model") -> VariantConfig:
    """What a block under `models` in params.yaml says; `where` is the key under which it stands, there or in a run.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    parts: Registries = {
        "likelihood": likelihoods(),
        "prior": priors(),
        "posterior": posteriors(),
        "objective": objectives(),
    }
    return parse_with_parts(kinds(), "kind", parts, block, where)


def build(config: VariantConfig, network: Network, spec: ImageSpec) -> Autoencoder:
    """The model of `config`, on the CPU, its weights drawn from torch's global generator.

    Raises:
        ConfigError: the network does not fit the images, or the variant not the network.
        UserError: the variant's file promises what it does not keep.
    """
    if misfit := network.misfit(spec.shape):
        raise ConfigError(f"network.{misfit}")
    if misfit := config.misfit(network):
        raise ConfigError(misfit)
    module = modules(__name__)[config.kind]
    models = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Autoencoder) and member.__module__ == module.__name__
    ]
    if len(models) != 1:
        raise UserError(f"{module.__file__}: found {len(models)} classes that extend Autoencoder, allowed: one")
    built: Autoencoder = models[0](config, network, spec)
    with_prior = isinstance(built, LatentVariableModel)
    if with_prior and not isinstance(config, PixelLikelihood):
        raise UserError(f"{module.__file__}: a LatentVariableModel's Config must extend PixelLikelihood")
    if built.conditional_parts and not with_prior:
        raise UserError(f"{module.__file__}: what conditions on labels must be a LatentVariableModel")
    return built


def restore(description: Mapping[str, Any], weights: bytes) -> Autoencoder:
    """A trained model in evaluation mode, from the content of its run's `config.json` and `model.safetensors`.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, UserError, SafetensorError: they are
            damaged, or of another version.
    """
    if unknown := {"network", "training"}.intersection(description["model"]):
        raise ValueError(f"model: found {', '.join(sorted(unknown))}, which stand beside it")
    config = configuration(description["model"])
    network = parse_named(architectures(), "architecture", description["network"], "network", default="mlp")
    shape = description["images"]["shape"]
    if [type(length) for length in shape] != [int] * 3 or min(shape) < 1:
        raise ValueError(f"images.shape: found {shape}, allowed: channels, height and width")
    spec = ImageSpec(tuple(shape), tuple(description["images"]["class_shares"]))
    trained = load(weights)
    # Before memory is taken for a network: what the description says must be what is stored.
    with torch.device("meta"):
        described = build(config, network, spec).state_dict()
    if {name: weight.shape for name, weight in described.items()} != {name: w.shape for name, w in trained.items()}:
        raise ValueError("the description is of another network than the weights")
    model = build(config, network, spec)
    model.load_state_dict(trained)
    return model.eval()
