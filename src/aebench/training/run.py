"""Runs of the benchmark, from configuration to files: a variant, a data set, seeds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.config import RunConfig, Training, part_types
from aebench.data.datasets import load
from aebench.devices import available
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
    """Train one run by itself; arguments and errors are those of `train_runs`."""
    (run,) = train_runs(config, dataset, [seed], data, report, stacked=False, checkpoints=checkpoints)
    return run


def train_runs(
    config: RunConfig,
    dataset: str,
    seeds: Sequence[int],
    data: Path | bytes,
    report: "Report",
    *,
    stacked: bool,
    checkpoints: Checkpoints | None = None,
) -> list[TrainedRun]:
    """Train a run for each seed, in their order, from their checkpoint where there is one.

    Args:
        config: the variant's configuration.
        dataset: the data set's name.
        seeds: one a run; everything that is drawn for it is drawn from it.
        data: the data set's file, or its content.
        report: is told (epochs done, epochs in all, the losses in words of the first run that learns) after each epoch.
        stacked: all runs are one computation on `config.device`; else there is one run, on the CPU.
        checkpoints: where the checkpoint of all of them lies and goes.

    Raises:
        ConfigError: the device is not there, the network does not fit the images, or they are too few for the prior.
        DataError: the data set is missing or damaged, or too small.
    """
    device = available(config.device)
    splits = load(data, dataset, config.data)
    spec = ImageSpec(splits.shape, splits.class_shares)
    models = [untrained(config, spec, seed, len(splits.train)) for seed in seeds]
    resume, checkpoint = (checkpoints.read(), checkpoints.writer()) if checkpoints else (None, none)
    parts = splits.train, splits.validation, config.training

    def after_epoch(history: History) -> None:
        report(len(history.epochs), config.training.epochs, in_words(history, config.training))

    with naming(config.variant):
        if stacked:
            from aebench.training.stacked import train_stacked

            histories = train_stacked(
                *(models, *parts, seeds, device),
                resume=resume,
                after_epoch=lambda finite: after_epoch(finite[0]),
                checkpoint=checkpoint,
            )
        else:
            ((model,), (seed,)) = models, seeds
            histories = [train(model, *parts, seed, resume=resume, after_epoch=after_epoch, checkpoint=checkpoint)]
    return [
        pack(model.cpu(), history, config, dataset, seed, spec)
        for model, history, seed in zip(models, histories, seeds, strict=True)
    ]


def untrained(config: RunConfig, spec: ImageSpec, seed: int, train_images: int) -> Autoencoder:
    """The model of a run, its weights drawn from `seed`.

    Raises:
        ConfigError: the network does not fit the images, they are too few for a part of the model, or the loss is no
            pure function.
    """
    for key in part_types(type(config.model)):
        if misfit := getattr(config.model, key).misfit(train_images):
            raise ConfigError(f"models.{config.variant}.{misfit}")
    with naming(config.variant):
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
    """The losses of the last epoch in a few words, and what the stopping rule waits for."""
    row = history.epochs[-1]
    losses = (f"{name.removesuffix('_loss')} {row[name]:.4g}" for name in row if name.endswith("_loss"))
    return ", ".join(filter(None, (f"loss: {', '.join(losses)}", config.stopping.in_words(history.validation_losses))))
