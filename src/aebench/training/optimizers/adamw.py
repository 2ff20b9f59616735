"""adamw: Adam with decoupled weight decay (Loshchilov & Hutter 2019, alg. 2)."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from aebench.config import Settings, Training
from aebench.training.optimizers.adam import Adam


class Config(Training):
    """`weight_decay`: λ; each step takes the share η·λ from every weight, with the learning rate η."""

    EXAMPLE: ClassVar[Settings] = {"weight_decay": 0.1}

    optimizer: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(gt=0, le=1e9)]


def make(config: Config, parameters: Sequence[Tensor], *, stacked: bool) -> Adam:
    """Adam with that decay, which is the same for stacked runs."""
    return Adam(parameters, config.weight_decay)
