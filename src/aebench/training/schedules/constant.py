"""constant: the learning rate stays what it is."""

from typing import Literal

from aebench.config import ScheduleConfig


class Config(ScheduleConfig):
    """It has no settings."""

    schedule: Literal["constant"] = "constant"
