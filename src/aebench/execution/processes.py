"""Workers on this machine: a process each, side by side."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from aebench.execution.engine import Engine, Job
from aebench.execution.progress import Message


@contextmanager
def processes(workers: int | str, jobs: int, data: Path) -> Iterator[Engine]:
    """Start the workers, and end them after the block."""
    # Workers forked before any thread has started have torch loaded already; elsewhere than on Linux forks are unsafe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    messages: SimpleQueue[Message | None] = context.SimpleQueue()
    with ProcessPoolExecutor(how_many(workers, jobs), context, _begin, (messages,)) as executor:
        yield Engine(executor, lambda job: job, _call, data, messages)


def how_many(workers: int | str, jobs: int) -> int:
    """How many processes `workers` means for so many jobs; `auto` is one a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(jobs, cores if workers == "auto" else int(workers)))


def _call(name: str, job: Job, data: Path) -> object:
    return job(data, lambda done, total, words: _messages.put(Message(name, done, total, words)))


_messages: "SimpleQueue[Message | None]"


def _begin(messages: "SimpleQueue[Message | None]") -> None:
    """Make a new process a worker."""
    global _messages
    _messages = messages
    one_thread()


def one_thread() -> None:
    """What every process that runs jobs begins with, wherever it is: a result depends on it."""
    import torch

    torch.set_num_threads(1)
    # Weights of pixels that are nearly always black leave tiny numbers in Adam's averages, which halve its speed.
    torch.set_flush_denormal(True)
