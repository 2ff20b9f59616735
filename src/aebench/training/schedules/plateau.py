"""plateau: the learning rate is halved where the validation loss has not fallen for some epochs."""

import math
from collections.abc import Sequence
from typing import Literal

from aebench.config import Count, ScheduleConfig, StoppingConfig


class Config(ScheduleConfig):
    """`plateau_epochs`: after so many epochs without a lower validation loss it is halved, and the count begins anew.

    The epochs of a variant's own warm-up do not count.
    """

    schedule: Literal["plateau"] = "plateau"
    plateau_epochs: Count = 5

    def share_of_epoch(self, losses: Sequence[float], warmup_epochs: int) -> float:
        """As torch's `ReduceLROnPlateau` has it with a factor of ½."""
        lowest, halvings, begun = math.inf, 0, warmup_epochs
        for epoch, loss in enumerate(losses, start=1):
            if loss < lowest:
                lowest, begun = loss, max(begun, epoch)
            elif epoch - begun == self.plateau_epochs:
                halvings, begun = halvings + 1, epoch
        return float(0.5**halvings)

    def looks_at_validation(self) -> tuple[str, str]:
        """It follows one."""
        return "has a learning rate of the schedule plateau", "schedule: constant"

    def conflict(self, stopping: StoppingConfig) -> str:
        """A patience no longer than a plateau would end training where the rate is to be halved for the first time."""
        patience = getattr(stopping, "patience", None)
        if patience is None or patience > self.plateau_epochs:
            return ""
        found = f"patience: found {patience} with plateau_epochs {self.plateau_epochs}"
        return f"{found}, allowed: more than {self.plateau_epochs}, or null"
