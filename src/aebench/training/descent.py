"""From a loss to a step: the gradient, and the learning rate of each step."""

from collections.abc import Sequence
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
        return self._config.learning_rate * self._config.schedule.share_of_step(done)
