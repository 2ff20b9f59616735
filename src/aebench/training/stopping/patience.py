"""patience: training ends where the validation loss has not fallen for some epochs."""

from collections.abc import Sequence
from typing import Literal

from aebench.config import Count, StoppingConfig


class Config(StoppingConfig):
    """`patience`: how many epochs without a lower validation loss end training; None: no number of them does.

    The epochs of a variant's own warm-up do not count.
    """

    stopping: Literal["patience"] = "patience"
    patience: Count | None = None

    def ends(self, losses: Sequence[float], warmup_epochs: int) -> bool:
        """Whether the lowest loss is so many epochs ago."""
        return self.patience is not None and len(losses) - max(_lowest(losses), warmup_epochs) >= self.patience

    def in_words(self, losses: Sequence[float]) -> str:
        """The lowest loss, its epoch, and for how many it waits."""
        if self.patience is None:
            return ""
        epoch = _lowest(losses)
        return f"lowest {losses[epoch - 1]:.4g} in epoch {epoch}, patience {self.patience}"

    def looks_at_validation(self) -> tuple[str, str] | None:
        """Unless it waits for ever."""
        return None if self.patience is None else (f"has a patience of {self.patience} epochs", "patience: null")


def _lowest(losses: Sequence[float]) -> int:
    """The first epoch of the lowest loss, from 1."""
    return losses.index(min(losses)) + 1
