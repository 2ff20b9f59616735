"""From a loss to a step: the gradient, and the learning rate of each step."""

import math
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from aebench.config import Training
from aebench.training import optimizers
from aebench.training.norms import clipped


@final
class Descent:
    """The steps of a run, or of S runs whose weights are stacked, `[S, …]` each."""

    def __init__(self, config: Training, parameters: Sequence[Tensor], batches: int, *, stacked: bool = False) -> None:
        """`batches`: of an epoch."""
        self.optimizer = optimizers.make(config, parameters, stacked=stacked)
        self._config, self._steps, self._stacked = config, config.epochs * batches, stacked
        self._warmup = round(config.warmup_share * self._steps)

    def step(self, loss: Tensor, number: int) -> None:
        """Go down the gradient of a loss, summed over runs where they are stacked; `number` of the step, from 0."""
        gradients = torch.autograd.grad(loss, self.optimizer.parameters, materialize_grads=True)
        if self._config.gradient_clip is not None:
            gradients = clipped(gradients, self._config.gradient_clip, self._stacked)
        self.optimizer.step(gradients, self.learning_rate(number))

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


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": _constant, "cosine": _cosine}
"""By name: the share of the learning rate that is left when a share `done` of the steps after the warm-up is done."""
