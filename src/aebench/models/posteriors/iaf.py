"""iaf: q(z|x) is a Gaussian behind inverse autoregressive steps (Kingma et al. 2016).

A step is z ← s ⊙ z + (1 − s) ⊙ m with s = sigmoid of one and m of the other output of a masked network (Germain et al.
2015), which sees of z only the dimensions before the one that it moves, and with them a context from the encoder
(eq. 10 to 14, and the form of algorithm 1). A step's first dimension has none before it: its m and s are learned
constants, without the context. The order of the dimensions is reversed from one step to the next.
"""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aebench.config import Layers, PosteriorConfig, Settings, Width
from aebench.models.posteriors import Flow, PosteriorModule

# Added to what becomes s, so that a new step changes little, as the forget gate of an LSTM.
OPEN = 2.0


class Config(PosteriorConfig):
    """`steps`: how many. `step_width`: of the hidden layer of each step's network, and of the context."""

    EXAMPLE: ClassVar[Settings] = {"steps": 2, "step_width": 8}

    posterior: Literal["iaf"] = "iaf"
    steps: Layers
    step_width: Width = 256


def make(config: Config, latent_dim: int) -> "InverseAutoregressive":
    """It learns the networks of its steps."""
    return InverseAutoregressive(config.steps, config.step_width, latent_dim)


@final
class InverseAutoregressive(PosteriorModule):
    """μ, log σ² and the context, side by side in the encoder's output."""

    def __init__(self, steps: int, width: int, latent_dim: int) -> None:
        super().__init__()
        self.sizes = [latent_dim, latent_dim, width]
        self.inputs = sum(self.sizes)
        self.steps = nn.ModuleList(Step(latent_dim, width) for _ in range(steps))

    def forward(self, output: Tensor) -> "AutoregressiveFlow":
        """`[..., inputs]` → batch shape `[...]`."""
        mean, log_variance, context = output.split(self.sizes, dim=-1)
        return AutoregressiveFlow(mean, 0.5 * log_variance, context, self.steps)


@final
class AutoregressiveFlow(Flow):
    """The steps with a context `[B, width]`."""

    def __init__(self, mean: Tensor, log_scale: Tensor, context: Tensor, steps: nn.ModuleList) -> None:
        super().__init__(mean, log_scale)
        self.context, self.steps = context, steps

    def transformed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step after the other, log |det| being Σ log s."""
        log_det = torch.zeros_like(z[..., 0])
        for step in self.steps:
            shift, gate = step(z, self.context)
            share = torch.sigmoid(gate)
            log_det = log_det - torch.logaddexp(torch.zeros_like(gate), -gate).sum(-1)
            z = (share * z + (1 - share) * shift).flip(-1)
        return z, log_det


@final
class Step(nn.Module):
    """m and s before its sigmoid, of each dimension but the first from those before it and the context."""

    first_mask: Tensor
    second_mask: Tensor

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(latent_dim, width), nn.Linear(width, 2 * latent_dim)
        # A hidden unit of degree d sees the first d dimensions; from it come those after them.
        dimension = torch.arange(1, latent_dim + 1, device="cpu")
        degree = torch.arange(width, device="cpu") % max(1, latent_dim - 1) + 1
        self.register_buffer("first_mask", (degree[:, None] >= dimension).float(), persistent=False)
        after = (dimension[:, None] > degree).float()
        self.register_buffer("second_mask", torch.cat([after, after]), persistent=False)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """`[..., B, L]` and `[B, width]` → `[..., B, L]` twice."""
        hidden = F.relu(F.linear(z, self.first.weight * self.first_mask, self.first.bias) + context)
        shift, gate = F.linear(hidden, self.second.weight * self.second_mask, self.second.bias).chunk(2, dim=-1)
        return shift, gate + OPEN
