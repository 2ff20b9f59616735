"""The optimisers: every file here is one, and its name is the `optimizer` that params.yaml gives under `training`.

A file holds `Config`, an `aebench.config.Training` with the optimiser's own settings (and `EXAMPLE`, values for those
that must be given), and `make(config, parameters, stacked=…)`, which gives an `Optimizer`. Where the weights of several
runs are `stacked`, each parameter is `[S, …]`, and what is done to a run must depend on no other.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from aebench.config import Training
from aebench.plugins import configurations, modules


class Optimizer(Protocol):
    """What goes down gradients."""

    parameters: Sequence[Tensor]
    """Changed in place by every step."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that later steps depend on, by name: the tensors themselves, not copies, so that they can be set."""

    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """One step down the gradients, which are one for each parameter, in their order and of their shapes.

        What it adds to the parameters is proportional to the learning rate.
        """


def optimizers() -> dict[str, type[Training]]:
    """For every optimiser its configuration, the class named `Config` in its file."""
    return configurations(__name__, Training, "make")


def make(config: Training, parameters: Sequence[Tensor], *, stacked: bool) -> Optimizer:
    """The optimiser of `config` for these parameters, or for those of several runs, `[S, …]` each."""
    made: Optimizer = modules(__name__)[config.optimizer].make(config, parameters, stacked=stacked)
    return made
