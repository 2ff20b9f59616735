"""One run of the benchmark, from configuration to files: a variant, a data set, a seed."""

import time
from pathlib import Path

from aebench.config import RunConfig
from aebench.data.datasets import load
from aebench.execution.progress import Report
from aebench.models.autoencoder import ImageSpec
from aebench.randomness import drawing_from, generator
from aebench.training.checkpoints import TrainedRun, pack
from aebench.training.train import train
from aebench.variants import build


def train_run(config: RunConfig, dataset: str, seed: int, data: Path | bytes, report: Report) -> TrainedRun:
    """Train one run.

    Args:
        config: the variant's configuration.
        dataset: the data set's name.
        seed: everything that is drawn is drawn from it.
        data: the data set's file, or its content.
        report: is told (epochs done, epochs in all, the losses in words) after each epoch.
    """
    started_at = time.time()
    splits = load(data, dataset, config.data.validation_fraction)
    spec = ImageSpec(splits.train.images.shape[1], splits.class_shares)
    with drawing_from(generator(seed, "weights")):
        model = build(config.model, config.network, spec)

    def after_epoch(epoch: int, row: dict[str, float]) -> None:
        losses = (f"{name.removesuffix('_loss')} {row[name]:.4g}" for name in row if name.endswith("_loss"))
        report(epoch, config.training.epochs, f"loss: {', '.join(losses)}")

    history = train(model, splits.train, splits.validation, config.training, seed, after_epoch=after_epoch)
    return pack(model, history, config, dataset, seed, spec, started_at)
