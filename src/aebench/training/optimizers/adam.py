"""adam: Adam (Kingma & Ba 2015), as torch computes it."""

from collections.abc import Sequence
from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.adam import adam

from aebench.config import Training


class Config(Training):
    """`epsilon`: ε, beside the root of the squares' average; β₁ and β₂ are the usual ones."""

    optimizer: Literal["adam"] = "adam"
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8


def make(config: Config, parameters: Sequence[Tensor], *, stacked: bool) -> "Adam":
    """Adam; what it does to an element of a parameter depends on no other, so it is the same for stacked runs."""
    return Adam(parameters, epsilon=config.epsilon)


@final
class Adam:
    """Adam with β₁ = 0.9, β₂ = 0.999 and ε, and decoupled weight decay (Loshchilov & Hutter 2019), if any.

    It does what `torch.optim.Adam(..., fused=True)` and `torch.optim.AdamW(..., fused=True)` do, bit for bit. It leaves
    out parameter groups, hooks and checks, which take a tenth of a step of these networks and import torch's compiler,
    a second of every worker.
    """

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float = 0.0, epsilon: float = 1e-8) -> None:
        """`parameters` are changed in place by every step."""
        self.parameters = list(parameters)
        self._weight_decay, self._epsilon = weight_decay, epsilon
        self._means = [torch.zeros_like(weight) for weight in self.parameters]
        self._squares = [torch.zeros_like(weight) for weight in self.parameters]
        self._steps = [torch.zeros((), device=weight.device) for weight in self.parameters]

    def state_dict(self) -> dict[str, Tensor]:
        """Both averages and the number of steps for each parameter, by name: the tensors themselves, not copies."""
        parts = {"mean": self._means, "square": self._squares, "steps": self._steps}
        return {f"{part}/{i}": value for part, values in parts.items() for i, value in enumerate(values)}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """One step down the gradients, which are one for each parameter, in their order and of their shapes."""
        # The fused form reads them as they lie in memory, and those of stacked weights may be transposed.
        adam(
            self.parameters,
            [gradient.contiguous() for gradient in gradients],
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self._weight_decay,
            decoupled_weight_decay=self._weight_decay > 0,
            eps=self._epsilon,
            maximize=False,
        )
