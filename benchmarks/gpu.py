"""`make bench-gpu`: runs a minute and estimates a second on a GPU, and whether they are what the CPU gives.

The network is the source article's, on Fashion-MNIST. Writes benchmarks/gpu.json with the card's name; needs the data
of `make repro`, or its file as an argument. Without a GPU it ends in one line.
"""

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import ROOT, summary

from aebench import numerics

if __name__ == "__main__":
    numerics.limit("native")

import torch

from aebench.config import Training
from aebench.data.datasets import Splits, load
from aebench.devices import available
from aebench.errors import UserError
from aebench.evaluation.marginal import Marginal
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.networks.mlp import Config
from aebench.paths import Layout
from aebench.randomness import drawing_from, generator
from aebench.training.settings import parse_training
from aebench.training.stacked import train_stacked
from aebench.training.state import History
from aebench.training.train import train
from aebench.variants import build, configuration

BLOCKS: dict[str, dict[str, Any]] = {
    "vae": {"kind": "vae"},
    "dae": {"kind": "dae", "corruption": "masking", "corruption_rate": 0.3},  # whose masks the CPU draws
    "cvae": {"kind": "cvae"},
    "cvae_concat": {"kind": "cvae", "conditioning": "concat"},
}
TIMED_VARIANTS = ("vae", "dae")
SEEDS = (1, 8, 32)
# Epochs of a run, and epochs that are timed, after one that is not.
EPOCHS, TIMED = 10, 3
K, GROUP, GROUPS, CHECKED = 1000, 100, 20, 200
NETWORK = Config(hidden=(256,), latent_dim=16)


def made(name: str, seed: int, splits: Splits) -> Autoencoder:
    """The untrained model of the block `name`, its weights drawn from `seed`."""
    with drawing_from(generator(seed, "weights")):
        spec = ImageSpec(splits.shape, splits.class_shares)
        return build(configuration(BLOCKS[name]), NETWORK, spec)


def training(epochs: int) -> Training:
    """The protocol of the article, batches of 64 at a constant rate, for so many epochs."""
    block = {"epochs": epochs, "batch_size": 64, "learning_rate": 1e-3, "select": "best_validation"}
    return parse_training(block)


def runs_a_minute(name: str, seeds: int, splits: Splits, device: torch.device) -> dict[str, float]:
    """How many runs of `EPOCHS` epochs a minute gives, validation included, by the median epoch; and the spread."""
    ended: list[float] = []
    train_stacked(
        [made(name, seed, splits) for seed in range(seeds)],
        splits.train,
        splits.validation,
        training(1 + TIMED),
        range(seeds),
        device,
        after_epoch=lambda *_: ended.append(time.perf_counter()),
    )
    return summary([60 * seeds / (EPOCHS * (end - begin)) for begin, end in pairwise(ended)])


def estimates_a_second(splits: Splits, device: torch.device) -> dict[str, float]:
    """How many images' likelihoods, of `K` samples each, a second gives, in groups of `GROUP`."""
    model, test = made("vae", 0, splits).requires_grad_(False).to(device), splits.test.to(device)
    assert isinstance(model, LatentVariableModel)
    rates = []
    for group in range(1 + GROUPS):
        begin = time.perf_counter()
        x = test.pixels(slice(group * GROUP, (group + 1) * GROUP))
        Marginal(model).estimate(x, K, generator("noise", group)).marginal.iw_log_likelihood.sum().item()
        rates.append(len(x) / (time.perf_counter() - begin))
    return summary(rates[1:])


def beside_the_cpu(name: str, splits: Splits, device: torch.device) -> dict[str, Any]:
    """An epoch of two seeds on the device, twice, beside each alone on the CPU."""

    def on_the_device() -> tuple[list[Autoencoder], list[History]]:
        models = [made(name, seed, splits) for seed in range(2)]
        histories = train_stacked(models, splits.train, splits.validation, training(1), range(2), device)
        return [model.cpu() for model in models], histories

    (models, histories), (again, _) = on_the_device(), on_the_device()
    losses, weights = [], []
    for seed, (model, history) in enumerate(zip(models, histories, strict=True)):
        alone = made(name, seed, splits)
        (expected,) = train(alone, splits.train, splits.validation, training(1), seed).epochs
        losses += [abs(history.epochs[0][key] / value - 1) for key, value in expected.items()]
        pairs = zip(model.parameters(), alone.parameters(), strict=True)
        weights += [((a - b).norm() / b.norm()).item() for a, b in pairs]
    return {
        "largest relative difference of a loss": max(losses),
        "largest relative difference of a layer's weights": max(weights),
        "bit for bit the same when repeated": all(
            torch.equal(a, b)
            for one, other in zip(models, again, strict=True)
            for a, b in zip(one.parameters(), other.parameters(), strict=True)
        ),
    }


def estimates_beside_the_cpu(splits: Splits, device: torch.device) -> float:
    """How far the mean estimate of `CHECKED` images lies from the CPU's, in nats; they come from other samples."""
    model = made("vae", 0, splits).requires_grad_(False)
    assert isinstance(model, LatentVariableModel)
    x = splits.test.pixels(slice(0, CHECKED))
    marginal, images = Marginal(model), enumerate(x.split(1))
    on_the_cpu = [marginal.estimate(image, K, generator("CPU", place)).marginal for place, image in images]
    on_the_device = Marginal(model.to(device)).estimate(x.to(device), K, generator("device")).marginal
    mean = sum(draws.iw_log_likelihood.item() for draws in on_the_cpu) / CHECKED
    return abs(on_the_device.iw_log_likelihood.mean().item() - mean)


def machine(device: torch.device) -> dict[str, Any]:
    """What was measured on."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    return {"card": card, "torch": torch.__version__, "cuda": torch.version.cuda, "cores": os.cpu_count()}


def measured(splits: Splits, device: torch.device) -> dict[str, Any]:
    """All figures."""
    return {
        "machine": machine(device),
        f"runs of {EPOCHS} epochs a minute": {
            name: {f"{seeds} seeds": runs_a_minute(name, seeds, splits, device) for seeds in SEEDS}
            for name in TIMED_VARIANTS
        },
        f"estimates a second, K = {K}": estimates_a_second(splits, device),
        "beside the CPU": {
            **{name: beside_the_cpu(name, splits, device) for name in BLOCKS},
            "mean estimate, nats apart": estimates_beside_the_cpu(splits, device),
        },
    }


def main() -> None:
    """Measure, print, write."""
    numerics.begin()
    try:
        device = available("cuda")
        file = Path(sys.argv[1]) if len(sys.argv) > 1 else Layout(ROOT).data("fashion_mnist")
        splits = load(file, "fashion_mnist", 0.1)
    except UserError as error:
        sys.exit(f"error: {error}")
    figures = json.dumps(measured(splits, device), indent=1) + "\n"
    (ROOT / "benchmarks" / "gpu.json").write_text(figures)
    print(figures, end="")


if __name__ == "__main__":
    main()
