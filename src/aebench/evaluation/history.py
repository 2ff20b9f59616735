"""How a run's training went, as its folder tells it."""

import csv
from pathlib import Path

from aebench.errors import TrainingError
from aebench.paths import HISTORY
from aebench.training.trained_run import StoredRun


def read_history(run: StoredRun) -> list[dict[str, float]]:
    """A row an epoch, by the names of `aebench.training.state.History`; none where a run failed at once.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    path = Path(run.folder) / HISTORY
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, strict=True))
        return [{name: float(value) for name, value in row.items() if name != "epoch"} for row in rows]
    except FileNotFoundError:
        raise TrainingError(f"{path} is missing; run its train stage") from None
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise TrainingError(f"{path} is damaged: {error}") from None
