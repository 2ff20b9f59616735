"""Where unfinished runs leave what they have, so that the next attempt goes on from there."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aebench.errors import FileError
from aebench.paths import write
from aebench.training.state import TrainingState


class Shelf(Protocol):
    """Entries by name: the store of this machine, or what all workers of a cluster reach."""

    def get(self, name: str) -> bytes | None:
        """The content of an entry; None where there is none."""

    def put(self, name: str, content: bytes) -> None:
        """Keep `content` under `name`."""

    def discard(self, name: str) -> None:
        """Forget an entry."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint of a job's runs, under `name` on `shelf`, at least `interval` seconds from the one before.

    `live`: a file a run for its history so far, on a machine that sees them; else none.
    """

    shelf: Shelf
    name: str
    interval: float
    live: Sequence[Path] = ()

    def read(self) -> bytes | None:
        """What an earlier attempt left; None where there is none."""
        return self.shelf.get(self.name)

    def write(self, state: TrainingState) -> None:
        """Keep it, and write the histories; where the disk is full the runs go on without."""
        self.shelf.put(self.name, state.pack())
        with suppress(FileError):
            for path, (progress, _) in zip(self.live, state.runs, strict=False):
                write(path, progress.history.csv())

    def discard(self) -> None:
        """Forget it: the runs have ended."""
        self.shelf.discard(self.name)

    def writer(self) -> Callable[[TrainingState], None]:
        """What training is to call after each epoch."""
        written = time.monotonic()

        def after_epoch(state: TrainingState) -> None:
            nonlocal written
            if time.monotonic() - written >= self.interval:
                self.write(state)
                written = time.monotonic()

        return after_epoch


def none(_: TrainingState) -> None:
    """The writer of runs that leave no checkpoint."""
