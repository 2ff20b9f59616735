"""stages: the learning rate is lowered to a tenth in eight stages, each three times as long as the one before."""

from typing import Literal

from aebench.config import ScheduleConfig


class Config(ScheduleConfig):
    """It has no settings."""

    schedule: Literal["stages"] = "stages"

    def share_of_step(self, done: float) -> float:
        """10^(−i/7) in stage i, of 3^i of 3280 parts of the steps, i from 0 to 7 (Burda et al. 2016, §5)."""
        ends = [(3 ** (stage + 1) - 1) / 2 for stage in range(8)]
        stage = sum(done * ends[-1] >= end for end in ends[:-1])
        return float(10 ** (-stage / 7))
