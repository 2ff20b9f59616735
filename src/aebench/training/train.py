"""One training loop for all variants."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aebench.config import Training
from aebench.data.datasets import Split
from aebench.errors import TrainingError
from aebench.models.autoencoder import Autoencoder
from aebench.models.objectives import squared_error
from aebench.randomness import Streams
from aebench.training.adam import Adam

EVALUATION_BATCH = 1000
# Validation images that are reconstructed after every epoch, at most: where the label must be inferred first, all of
# them would take as long as half an epoch.
RECONSTRUCTED = 1000


@dataclass
class History:
    """What training did.

    `epochs`: a row an epoch, means over images: `train_loss` and its parts, the same on validation under
    `validation_`, and `validation_reconstruction_mse`, which has one meaning for all variants (of the split's first
    images, see `RECONSTRUCTED`).
    `selected_epoch`: the one whose weights the model has now.
    `finished_at`: when each epoch ended, in seconds since 1970.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    selected_epoch: int = 0
    finished_at: list[float] = field(default_factory=list)


def train(
    model: Autoencoder,
    data: Split,
    validation: Split,
    config: Training,
    seed: int,
    *,
    after_epoch: Callable[[int, dict[str, float]], None] = lambda *_: None,
    after_batch: Callable[[Tensor], None] = lambda _: None,
) -> History:
    """Train `model` in place and leave it with the weights that `config.select` names.

    Args:
        model: its weights already drawn.
        data: the training split.
        validation: the validation split; it may be empty where `config.select` is `last`.
        config: epochs, batch size, learning rate, selection.
        seed: order of the images, corruption and noise are drawn from it, each from its own generator.
        after_epoch: is told the epoch and its row of the history.
        after_batch: is told the losses of a batch, `[B]`, before the step that they cause.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    streams = Streams(seed)
    optimizer = Adam(model.parameters(), config.learning_rate)
    history = History()
    best, best_weights = math.inf, model.state_dict()
    for epoch in range(1, config.epochs + 1):
        model.train()
        seen: dict[str, list[Tensor]] = defaultdict(list)
        for index in torch.randperm(len(data), generator=streams["order"]).split(config.batch_size):
            x = data.pixels(index, streams["binarization"])
            terms = model.loss(x, data.labels[index], epoch=epoch, streams=streams)
            after_batch(terms["loss"])
            loss = terms["loss"].mean()
            optimizer.step(torch.autograd.grad(loss, optimizer.parameters, materialize_grads=True))
            for name, values in terms.items():
                seen[name].append(values.detach())
        row = {f"train_{name}": mean for name, mean in _means(seen).items()}
        if len(validation):
            row |= {f"validation_{name}": value for name, value in validate(model, validation, seed).items()}
        if not all(map(math.isfinite, row.values())):
            raise TrainingError(
                f"seed {seed}: the loss is not finite in epoch {epoch}; try a smaller training.learning_rate"
            )
        history.epochs.append(row)
        history.finished_at.append(time.time())
        score = row["validation_loss"] if config.select == "best_validation" else -math.inf
        if score < best or config.select == "last":
            best, history.selected_epoch = score, epoch
            best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        after_epoch(epoch, row)
    model.load_state_dict(best_weights)
    model.eval()
    return history


@torch.no_grad()
def validate(model: Autoencoder, split: Split, seed: int) -> dict[str, float]:
    """Means over a split of the loss, as it is after every schedule, and of its parts, and the reconstruction MSE of
    its first `RECONSTRUCTED` images.

    The noise is the same at every call, so that epochs differ by their weights alone.
    """
    model.eval()
    streams = Streams(seed, "validation")
    seen: dict[str, list[Tensor]] = defaultdict(list)
    for index in torch.arange(len(split)).split(EVALUATION_BATCH):
        for name, values in model.loss(split.pixels(index), split.labels[index], epoch=None, streams=streams).items():
            seen[name].append(values)
    x = split.pixels(slice(RECONSTRUCTED))
    seen["reconstruction_mse"] = [squared_error(x, model.reconstruct(x)) / x.shape[-1]]
    return _means(seen)


def _means(seen: Mapping[str, list[Tensor]]) -> dict[str, float]:
    """Over all images, of the values of their batches."""
    return {name: torch.cat(values).double().mean().item() for name, values in seen.items()}
