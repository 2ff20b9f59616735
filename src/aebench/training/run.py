"""One run of the benchmark, from configuration to files: a variant, a data set, a seed."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.config import RunConfig
from aebench.data.datasets import load
from aebench.errors import ConfigError, FileError
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.paths import write
from aebench.randomness import drawing_from, generator
from aebench.training.purity import require_purity
from aebench.training.state import TrainingState
from aebench.training.train import train
from aebench.training.trained_run import TrainedRun, pack
from aebench.variants import build

if TYPE_CHECKING:
    from aebench.execution.progress import Report
    from aebench.store import Store

# Checkpoints are at least so many seconds apart: a small run would spend its time on them.
INTERVAL = 1.0


@dataclass(frozen=True)
class CheckpointWriter:
    """Where an unfinished run leaves its checkpoint and its history, on a machine that will see them again.

    `checkpoint` is the name of an entry in `store`, `live` the file for the history so far.
    """

    store: "Store"
    checkpoint: str
    live: Path

    def read(self) -> bytes | None:
        """The checkpoint that an earlier attempt left; None where there is none."""
        return self.store.get(self.checkpoint)

    def write(self, state: TrainingState) -> None:
        """Write both; where the disk is full the run goes on without."""
        self.store.put(self.checkpoint, state.pack())
        with suppress(FileError):
            write(self.live, state.progress.history.csv())


def train_run(
    config: RunConfig,
    dataset: str,
    seed: int,
    data: Path | bytes,
    report: "Report",
    *,
    checkpoints: CheckpointWriter | None = None,
) -> TrainedRun:
    """Train one run, from its checkpoint where there is one.

    Args:
        config: the variant's configuration.
        dataset: the data set's name.
        seed: everything that is drawn is drawn from it.
        data: the data set's file, or its content.
        report: is told (epochs done, epochs in all, the losses in words) after each epoch.
        checkpoints: where the checkpoint lies and goes.

    Raises:
        ConfigError: the network does not fit the images.
        DataError: the data set is missing or damaged, or too small.
    """
    splits = load(data, dataset, config.data.validation_fraction)
    spec = ImageSpec(splits.shape, splits.class_shares)
    model = untrained(config, spec, seed)
    written = time.monotonic()

    def after_epoch(epoch: int, row: dict[str, float]) -> None:
        report(epoch, config.training.epochs, in_words(row))

    def checkpoint(state: TrainingState) -> None:
        nonlocal written
        if checkpoints and time.monotonic() - written >= INTERVAL:
            checkpoints.write(state)
            written = time.monotonic()

    history = train(
        model,
        splits.train,
        splits.validation,
        config.training,
        seed,
        resume=checkpoints.read() if checkpoints else None,
        after_epoch=after_epoch,
        checkpoint=checkpoint,
    )
    return pack(model, history, config, dataset, seed, spec)


def untrained(config: RunConfig, spec: ImageSpec, seed: int) -> Autoencoder:
    """The model of a run, its weights drawn from `seed`.

    Raises:
        ConfigError: the network does not fit the images, or the loss is no pure function.
    """
    try:
        with drawing_from(generator(seed, "weights")):
            model = build(config.model, config.network, spec)
        require_purity(model, spec)
    except ConfigError as error:
        raise ConfigError(f"{config.variant}: {error}") from None
    return model


def in_words(row: dict[str, float]) -> str:
    """The losses in an epoch's row of the history, in a few words."""
    losses = (f"{name.removesuffix('_loss')} {row[name]:.4g}" for name in row if name.endswith("_loss"))
    return f"loss: {', '.join(losses)}"
