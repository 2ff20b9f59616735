"""One training loop for all variants."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from aebench.config import Training
from aebench.data.datasets import Split
from aebench.models.autoencoder import Autoencoder
from aebench.models.objectives import squared_error
from aebench.randomness import Streams
from aebench.training.descent import Descent
from aebench.training.state import History, Progress, TrainingState

EVALUATION_BATCH = 1000
# Validation images that are reconstructed after every epoch, at most: where the label must be inferred first, all of
# them would take as long as half an epoch.
RECONSTRUCTED = 1000


def train(
    model: Autoencoder,
    data: Split,
    validation: Split,
    config: Training,
    seed: int,
    *,
    resume: bytes | None = None,
    after_epoch: Callable[[History], None] = lambda _: None,
    after_batch: Callable[[Tensor], None] = lambda _: None,
    checkpoint: Callable[[TrainingState], None] = lambda _: None,
) -> History:
    """Train `model` in place, and leave it with the weights that `config.select` names.

    Each step follows the gradient of the mean of a batch's losses. Training that leaves the finite numbers, or
    diverges, ends there; the history says so.

    Args:
        model: its weights already drawn.
        data: the training split.
        validation: the validation split; it may be empty where `config.select` is `last`.
        config: epochs, batch size, optimiser and learning rate, when to stop, selection.
        seed: order of the images, their binarization and what the loss takes at random are drawn from it, each from its
            own generator.
        resume: the state of a run that was interrupted, packed; one that is not of a run like this is passed over.
        after_epoch: is given the history so far.
        after_batch: is given the losses of a batch, `[B]`, before the step that they cause.
        checkpoint: is given the state after each epoch after which training goes on.
    """
    streams = Streams(seed)
    model.before_training(data.images, streams)
    batches = -(-len(data) // config.batch_size)
    descent = Descent(config, [weight for weight in model.parameters() if weight.requires_grad], batches)
    progress = Progress(model)
    state = TrainingState([(progress, streams)], descent.optimizer)
    if resume:
        state.load_state(resume)
    for epoch in range(len(progress.history.epochs) + 1, config.epochs + 1):
        started = time.perf_counter()
        model.train()
        share = progress.share_of_rate(config)
        seen: dict[str, list[Tensor]] = defaultdict(list)
        order = torch.randperm(len(data), generator=streams["order"]).split(config.batch_size)
        for number, index in enumerate(order, start=(epoch - 1) * batches):
            x = data.pixels(index, streams["binarization"])
            terms = model.loss(x, data.labels[index], model.noise(index, streams), epoch=epoch)
            after_batch(terms["loss"])
            descent.step(terms["loss"].mean(), number, share)
            for name, values in terms.items():
                seen[name].append(values.detach())
        row = {f"train_{name}": mean for name, mean in _means(seen).items()}
        if len(validation):
            row |= {f"validation_{name}": value for name, value in validate(model, validation, seed).items()}
        goes_on = progress.end_epoch(row, time.perf_counter() - started, config, data.images.shape[-1])
        if goes_on:
            checkpoint(state)
        if not progress.history.failed:
            after_epoch(progress.history)
        if not goes_on:
            break
    return progress.end()


@torch.no_grad()
def validate(model: Autoencoder, split: Split, seed: int) -> dict[str, float]:
    """The means over a split of the loss and its parts, and the reconstruction MSE, a pixel, of its first images.

    The loss is what it is after every schedule; `RECONSTRUCTED` says how many images are reconstructed. The noise is
    the same at every call, so that epochs differ by their weights alone.
    """
    model.eval()
    streams = Streams(seed, "validation")
    seen: dict[str, list[Tensor]] = defaultdict(list)
    for index in torch.arange(len(split), device=split.labels.device).split(EVALUATION_BATCH):
        elsewhere = torch.full((len(index),), -1)  # these are no training images
        noise = tuple(part.to(index.device) for part in model.noise(elsewhere, streams))
        for name, values in model.loss(split.pixels(index), split.labels[index], noise, epoch=None).items():
            seen[name].append(values)
    x = split.pixels(slice(RECONSTRUCTED))
    seen["reconstruction_mse"] = [squared_error(x, model.reconstruct(x)) / x.shape[-1]]
    return _means(seen)


def _means(seen: Mapping[str, list[Tensor]]) -> dict[str, float]:
    """Over all images, of the values of their batches."""
    return {name: torch.cat(values).double().mean().item() for name, values in seen.items()}
