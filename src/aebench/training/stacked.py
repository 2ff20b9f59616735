"""The runs of several seeds as one computation, their weights stacked: one small network cannot fill a GPU.

Each seed keeps its own generators, and what they draw is drawn on the CPU: every run sees the same images in the same
order with the same noise as when it is trained alone, and its results differ from those by rounding alone.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from aebench.config import Training
from aebench.data.datasets import Split
from aebench.devices import sent
from aebench.models.autoencoder import Autoencoder, Noise
from aebench.randomness import Streams
from aebench.training.descent import Descent
from aebench.training.state import History, Progress, TrainingState
from aebench.training.train import validate

# Batches whose noise is drawn while the device works on those before.
AHEAD = 16


def train_stacked(
    models: Sequence[Autoencoder],
    data: Split,
    validation: Split,
    config: Training,
    seeds: Sequence[int],
    device: torch.device,
    *,
    resume: bytes | None = None,
    after_epoch: Callable[[list[History]], None] = lambda _: None,
    checkpoint: Callable[[TrainingState], None] = lambda _: None,
) -> list[History]:
    """Train `models` in place, as `train` does each of them; S of them, the same but for their weights.

    Args:
        models: on the CPU or on `device`; afterwards they are on `device`.
        data: the training split, on the CPU.
        validation: the validation split, on the CPU; it may be empty where `config.select` is `last`.
        config: epochs, batch size, optimiser and learning rate, when to stop, selection.
        seeds: one a model.
        device: where to compute.
        resume: the state of these runs when they were interrupted, packed; one that is not theirs is passed over.
        after_epoch: is given the history so far of every run that is still finite.
        checkpoint: is given the state after each epoch after which one of them goes on.

    Returns:
        For each seed its history; one that diverges or stops ends where it would alone, and the others go on. An
        epoch's seconds are those of all runs together.
    """
    runs = [_Run(model.to(device), data.images, seed) for model, seed in zip(models, seeds, strict=True)]
    weights, objective = _stacked(models)
    batch_count = -(-len(data) // config.batch_size)
    parameters = [weight for weight in weights.values() if weight.requires_grad]
    descent = Descent(config, parameters, batch_count, stacked=True)
    state = TrainingState([(run.progress, run.streams) for run in runs], descent.optimizer)
    if resume:
        state.load_state(resume)
    held_out, done = validation.to(device), max(len(run.progress.history.epochs) for run in runs)
    with _Batches(runs, data, config.batch_size, device) as batches:
        for epoch in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            for model in models:
                model.train()
            shares = [run.progress.share_of_rate(config) for run in runs]
            # Where none is less than 1 a step is taken as it is.
            share = parameters[0].new_tensor(shares) if min(shares) < 1 else 1.0
            seen: dict[str, list[Tensor]] = defaultdict(list)
            for number, (x, y, noise) in enumerate(batches.of_an_epoch(), start=(epoch - 1) * batch_count):
                terms = objective(weights, x, y, noise, epoch)
                # A sum over seeds, so that each one's gradient is that of its own mean over images.
                descent.step(terms["loss"].mean(1).sum(), number, share)
                for name, values in terms.items():
                    seen[name].append(values.detach())
            means = {name: torch.cat(values, dim=1).double().mean(1).tolist() for name, values in seen.items()}
            rows = [{f"train_{name}": of_each[place] for name, of_each in means.items()} for place in range(len(runs))]
            in_training = [(run, row) for run, row in zip(runs, rows, strict=True) if run.progress.goes_on]
            for run, row in in_training:
                if len(held_out):
                    losses = validate(run.model, held_out, run.seed)
                    row |= {f"validation_{name}": value for name, value in losses.items()}
            seconds, pixels = time.perf_counter() - started, data.images.shape[-1]
            going_on = [run.progress.end_epoch(row, seconds, config, pixels) for run, row in in_training]
            if any(going_on):
                checkpoint(state)
            if finite := [run.progress.history for run, _ in in_training if not run.progress.history.failed]:
                after_epoch(finite)
            if not any(going_on):
                break
    return [run.progress.end() for run in runs]


Objective = Callable[[dict[str, Tensor], Tensor, Tensor, Noise, int], dict[str, Tensor]]


def _stacked(models: Sequence[Autoencoder]) -> tuple[dict[str, Tensor], Objective]:
    """The models' weights and buffers `[S, …]` by name, and the loss of all, `[S, B]`, as a function of them.

    From then on the models' own tensors are slices of these: whoever changes one changes the other.
    """
    wrapped = [_Loss(model) for model in models]
    parameters, buffers = stack_module_state(list(wrapped))
    weights: dict[str, Tensor] = {**parameters, **buffers}
    for place, loss in enumerate(wrapped):
        for name, own in (*loss.named_parameters(), *loss.named_buffers()):
            own.data = weights[name].detach()[place]

    def objective(weights: dict[str, Tensor], x: Tensor, y: Tensor, noise: Noise, epoch: int) -> dict[str, Tensor]:
        def of_one(weights: dict[str, Tensor], x: Tensor, y: Tensor, noise: Noise) -> dict[str, Tensor]:
            terms: dict[str, Tensor] = functional_call(wrapped[0], weights, (x, y, noise, epoch))
            return terms

        of_all: dict[str, Tensor] = vmap(of_one)(weights, x, y, noise)
        return of_all

    return weights, objective


@final
class _Loss(nn.Module):
    """A model's loss as a module's forward, which is what torch calls with other weights than its own."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor, noise: Noise, epoch: int) -> dict[str, Tensor]:
        return self.model.loss(x, y, noise, epoch=epoch)


@final
class _Run:
    """One seed: its model and what it has come to, and its generators."""

    def __init__(self, model: Autoencoder, images: Tensor, seed: int) -> None:
        self.model, self.seed, self.streams = model, seed, Streams(seed)
        model.before_training(images, self.streams)
        self.progress = Progress(model)


@final
class _Batches:
    """The batches of all runs, on the device; the images lie there once, and each run gathers its own."""

    def __init__(self, runs: Sequence[_Run], data: Split, size: int, device: torch.device) -> None:
        self._runs, self._data, self._size, self._device = runs, data, size, device
        self._there = data.to(device)
        self._threads = ThreadPoolExecutor(min(len(runs), os.cpu_count() or 1))

    def __enter__(self) -> "_Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def of_an_epoch(self) -> Iterator[tuple[Tensor, Tensor, Noise]]:
        """x `[S, B, D]`, y `[S, B]` and the noise, each part `[S, …]`."""
        order = torch.stack([torch.randperm(len(self._data), generator=run.streams["order"]) for run in self._runs])
        places = sent(order, self._device).split(self._size, dim=1)
        for place, of_each in zip(places, self._drawn(order.split(self._size, dim=1)), strict=True):
            drawn = tuple(sent(torch.stack(parts), self._device) for parts in zip(*of_each, strict=True))
            if self._data.dynamic_binarization:
                pixels, *drawn_for_loss = drawn
                x, noise = pixels.float(), tuple(drawn_for_loss)
            else:
                x, noise = self._there.pixels(place.flatten()).view(*place.shape, -1), drawn
            yield x, self._there.labels[place], noise

    def _drawn(self, batches: Sequence[Tensor]) -> Iterator[tuple[Noise, ...]]:
        """For each batch what each of the runs draws for it, drawn ahead: one task a run and so many batches."""
        chunks = [batches[start : start + AHEAD] for start in range(0, len(batches), AHEAD)]
        waiting = self._begin(chunks[0])
        for following in (*chunks[1:], None):
            ready = [task.result() for task in waiting]
            waiting = self._begin(following) if following else []
            yield from zip(*ready, strict=True)

    def _begin(self, batches: Sequence[Tensor]) -> list[Future[list[Noise]]]:
        return [
            self._threads.submit(self._draw, run, [batch[place] for batch in batches])
            for place, run in enumerate(self._runs)
        ]

    def _draw(self, run: _Run, batches: Sequence[Tensor]) -> list[Noise]:
        """What a run draws for its batches: the pixels, where they are drawn anew each time, and the noise."""
        drawn = []
        for batch in batches:
            pixels = (
                self._data.pixels(batch, run.streams["binarization"]).bool()
                if self._data.dynamic_binarization
                else None
            )
            noise = run.model.noise(batch, run.streams)
            drawn.append(noise if pixels is None else (pixels, *noise))
        return drawn
