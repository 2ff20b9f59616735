"""Jobs for the workers of a cluster: a module without the tests' own imports."""

import os
import signal
import time
from pathlib import Path

from aebench.errors import TrainingError
from aebench.execution.progress import Report


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
