"""One run of the benchmark, from configuration to files: a variant, a data set, a seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.config import RunConfig, Training, part_types
from aebench.data.datasets import load
from aebench.errors import ConfigError
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.randomness import drawing_from, generator
from aebench.training.checkpoints import Checkpoints, none
from aebench.training.purity import require_purity
from aebench.training.state import History
from aebench.training.train import train
from aebench.training.trained_run import TrainedRun, pack
from aebench.variants import build

if TYPE_CHECKING:
    from aebench.execution.progress import Report


def train_run(
    config: RunConfig,
    dataset: str,
    seed: int,
    data: Path | bytes,
    report: "Report",
    *,
    checkpoints: Checkpoints | None = None,
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
        ConfigError: the network does not fit the images, or they are too few for the prior.
        DataError: the data set is missing or damaged, or too small.
    """
    splits = load(data, dataset, config.data)
    spec = ImageSpec(splits.shape, splits.class_shares)
    model = untrained(config, spec, seed, len(splits.train))

    def after_epoch(history: History) -> None:
        report(len(history.epochs), config.training.epochs, in_words(history, config.training))

    with naming(config.variant):
        history = train(
            model,
            splits.train,
            splits.validation,
            config.training,
            seed,
            resume=checkpoints.read() if checkpoints else None,
            after_epoch=after_epoch,
            checkpoint=checkpoints.writer() if checkpoints else none,
        )
    return pack(model, history, config, dataset, seed, spec)


def untrained(config: RunConfig, spec: ImageSpec, seed: int, train_images: int) -> Autoencoder:
    """The model of a run, its weights drawn from `seed`.

    Raises:
        ConfigError: the network does not fit the images, they are too few for a part of the model, or the loss is no
            pure function.
    """
    with naming(config.variant):
        for key in part_types(type(config.model)):
            if misfit := getattr(config.model, key).misfit(train_images):
                raise ConfigError(misfit)
        with drawing_from(generator(seed, "weights")):
            model = build(config.model, config.network, spec)
        require_purity(model, spec)
    return model


@contextmanager
def naming(variant: str) -> Iterator[None]:
    """A ConfigError that is raised inside the block names the variant."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{variant}: {error}") from None


def in_words(history: History, config: Training) -> str:
    """The losses of the last epoch in a few words, and what a patience waits for."""
    row = history.epochs[-1]
    losses = (f"{name.removesuffix('_loss')} {row[name]:.4g}" for name in row if name.endswith("_loss"))
    words = f"loss: {', '.join(losses)}"
    if config.patience is None:
        return words
    lowest, epoch = min((row["validation_loss"], epoch) for epoch, row in enumerate(history.epochs, start=1))
    return f"{words}, lowest {lowest:.4g} in epoch {epoch}, patience {config.patience}"
