"""Jobs for the workers of a cluster: a module without the tests' own imports."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from aebench.errors import TrainingError
from aebench.execution.cluster import SchedulerShelf
from aebench.execution.progress import Report
from aebench.training.trained_run import TrainedRun


def capability(data: bytes, report: Report) -> tuple[str, bool, int, bytes]:
    import torch

    from aebench import portable

    return torch.backends.cpu.get_cpu_capability(), portable._library is not None, torch.get_num_threads(), data


def slow(folder: Path, name: str, data: bytes, report: Report) -> str:
    """Leave a trace of where it runs, and go on until told to end; where its worker is gone, go on for a minute."""
    worker, begun = os.getppid(), time.monotonic()
    (folder / f"{name}-{os.getpid()}").touch()
    while not (folder / "end").exists() or (os.getppid() != worker and time.monotonic() - begun < 60):
        time.sleep(0.05)
    return name


def failing(data: bytes, report: Report) -> None:
    raise TrainingError("seed 1: the loss is not finite")


def dying(data: bytes, report: Report) -> None:
    os._exit(9)


def deadly(folder: Path, data: bytes, report: Report) -> None:
    """Take the worker with it."""
    os.kill(os.getppid(), signal.SIGKILL)
    while not (folder / "end").exists():
        time.sleep(0.05)


def dying_once(
    folder: Path, job: Callable[[bytes, Report], list[TrainedRun]], data: bytes, report: Report
) -> list[dict[str, bytes]]:
    """Leave a trace of each epoch, which can be left once alone; after the second, take the worker with it."""

    def told(done: int, total: int, words: str) -> None:
        (folder / str(done)).touch(exist_ok=False)
        if done == 2:
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()

    return [run.files for run in job(data, told)]


def on_the_shelf(name: str, data: bytes, report: Report) -> bytes | None:
    return SchedulerShelf().get(name)
