"""From a loss to a step: the gradient, and the learning rate of each step."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import final

import torch
from torch import Tensor

from aebench.config import Training
from aebench.training import optimizers
from aebench.training.norms import clipped, of_each_run


@final
class Descent:
    """The steps of a run, or of S runs whose weights are stacked, `[S, …]` each."""

    def __init__(self, config: Training, parameters: Sequence[Tensor], batches: int, *, stacked: bool = False) -> None:
        """`batches`: of an epoch."""
        self.optimizer = optimizers.make(config, parameters, stacked=stacked)
        self._config, self._steps, self._stacked = config, config.epochs * batches, stacked
        self._warmup = round(config.warmup_share * self._steps)

    def step(self, loss: Tensor, number: int, share: float | Tensor = 1.0) -> None:
        """Go down the gradient of a loss.

        Args:
            loss: a number, summed over runs where they are stacked.
            number: of the step, from 0.
            share: of the learning rate that is taken; `[S]`, one a run, where those of stacked runs differ.
        """
        gradients = torch.autograd.grad(loss, self.optimizer.parameters, materialize_grads=True)
        if self._config.gradient_clip is not None:
            gradients = clipped(gradients, self._config.gradient_clip, self._stacked)
        if isinstance(share, Tensor):
            self._step_of_each_run(gradients, self.learning_rate(number), share)
        else:
            self.optimizer.step(gradients, self.learning_rate(number) * share)

    @torch.no_grad()
    def _step_of_each_run(self, gradients: Sequence[Tensor], learning_rate: float, share: Tensor) -> None:
        """A step at the whole rate, of which each run goes its share: a step is proportional to the rate."""
        before = [weight.clone() for weight in self.optimizer.parameters]
        self.optimizer.step(gradients, learning_rate)
        for weight, start in zip(self.optimizer.parameters, before, strict=True):
            weight.copy_(start.lerp(weight, of_each_run(share, weight)))

    def learning_rate(self, number: int) -> float:
        """Of the step of that number, from 0: rising linearly over the warm-up, then after the schedule."""
        if number < self._warmup:
            return self._config.learning_rate * (number + 1) / self._warmup
        done = (number - self._warmup) / (self._steps - self._warmup)
        return self._config.learning_rate * SCHEDULES[self._config.schedule](done)


def _constant(_: float) -> float:
    return 1.0


def _cosine(done: float) -> float:
    """½ (1 + cos π·done), from 1 to 0 (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _stages(done: float) -> float:
    """10^(−i/7) in stage i, of 3^i of 3280 parts of the steps, i from 0 to 7 (Burda et al. 2016, §5)."""
    ends = [(3 ** (stage + 1) - 1) / 2 for stage in range(8)]
    stage = sum(done * ends[-1] >= end for end in ends[:-1])
    return float(10 ** (-stage / 7))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "plateau": _constant,
    "stages": _stages,
}
"""By name: the share of the learning rate that is left when a share `done` of the steps after the warm-up is done.

What `plateau` leaves of it depends on the validation losses alone: `0.5 ** halvings(…)`.
"""


def halvings(losses: Iterable[float], plateau_epochs: int, warmup_epochs: int) -> int:
    """How often the schedule `plateau` has halved the learning rate, as torch's `ReduceLROnPlateau` does it.

    Args:
        losses: the validation loss of each epoch so far.
        plateau_epochs: after so many epochs without a lower one the rate is halved, and the count begins anew.
        warmup_epochs: so many of the first epochs do not count.
    """
    lowest, count, begun = math.inf, 0, warmup_epochs
    for epoch, loss in enumerate(losses, start=1):
        if loss < lowest:
            lowest, begun = loss, max(begun, epoch)
        elif epoch - begun == plateau_epochs:
            count, begun = count + 1, epoch
    return count
