"""cosine: the learning rate is lowered to 0 over all steps, along half a cosine."""

import math
from typing import Literal

from aebench.config import ScheduleConfig


class Config(ScheduleConfig):
    """It has no settings."""

    schedule: Literal["cosine"] = "cosine"

    def share_of_step(self, done: float) -> float:
        """½ (1 + cos π·done), from 1 to 0 (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
        return 0.5 * (1 + math.cos(math.pi * done))
