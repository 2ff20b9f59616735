"""normalised_adam: Adam on gradients each of which is divided by its norm.

That is the optimiser of the experiments with the VampPrior (Tomczak & Welling 2018) in their published code: a
parameter's gradient g becomes g/(‖g‖ + 1e-7), whatever the other parameters' are.
"""

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor

from aebench.config import Training
from aebench.training.norms import of_each_run, squared_norms
from aebench.training.optimizers.adam import Adam


class Config(Training):
    """It has no settings of its own."""

    optimizer: Literal["normalised_adam"] = "normalised_adam"


def make(config: Config, parameters: Sequence[Tensor], *, stacked: bool) -> "NormalisedAdam":
    """Adam behind gradients of norm 1, of each run where they are stacked."""
    return NormalisedAdam(Adam(parameters), stacked)


@final
class NormalisedAdam:
    """Adam on g/(‖g‖ + 1e-7) for each parameter's gradient g."""

    def __init__(self, adam: Adam, stacked: bool) -> None:
        self.parameters, self._adam, self._stacked = adam.parameters, adam, stacked

    def state_dict(self) -> dict[str, Tensor]:
        """Adam's."""
        return self._adam.state_dict()

    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """One step down the normalised gradients."""
        norms = [squared_norms(gradient, self._stacked).sqrt() + 1e-7 for gradient in gradients]
        self._adam.step(
            [gradient / of_each_run(norm, gradient) for gradient, norm in zip(gradients, norms, strict=True)],
            learning_rate,
        )
