"""Adam, as torch computes it."""

from collections.abc import Iterable, Sequence
from typing import final

import torch
from torch import Tensor
from torch.optim.adam import adam


@final
class Adam:
    """Adam (Kingma & Ba 2015) with its usual β₁, β₂ and ε, in torch's fused form.

    It does what `torch.optim.Adam(..., fused=True)` does, bit for bit, and leaves out parameter groups, hooks and
    checks, which take a tenth of a step of these networks and import torch's compiler, a second of every worker.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        """`parameters` are changed in place by every step."""
        self.parameters = list(parameters)
        self._learning_rate = learning_rate
        self._means = [torch.zeros_like(weight) for weight in self.parameters]
        self._squares = [torch.zeros_like(weight) for weight in self.parameters]
        self._steps = [torch.zeros((), device=weight.device) for weight in self.parameters]

    def state(self) -> dict[str, Tensor]:
        """Both averages and the number of steps for each parameter, by name: the tensors themselves, not copies."""
        parts = {"mean": self._means, "square": self._squares, "steps": self._steps}
        return {f"{part}/{i}": value for part, values in parts.items() for i, value in enumerate(values)}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
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
            lr=self._learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
