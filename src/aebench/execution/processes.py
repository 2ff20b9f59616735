"""Workers on this machine: a process each, side by side."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from aebench.config import Device
from aebench.execution.engine import Engine, Job, timed
from aebench.execution.progress import Begun, Message, Messages
from aebench.numerics import begin

# How a worker ends that was not killed by anyone else: by itself, or by its pool.
_ORDINARY = (None, 0, -signal.SIGTERM)


@contextmanager
def processes(workers: int | str, jobs: int, data: Path, device: Device = "cpu") -> Iterator[Engine]:
    """Start workers for so many `jobs`, and end them after the block; at once where it ends by an exception."""
    # Workers forked before any thread has started have torch loaded already; elsewhere than on Linux forks are unsafe,
    # and CUDA does not survive them.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" and device == "cpu" else "spawn")
    messages = Messages()
    count = worker_count(workers, jobs)
    all_there = context.Barrier(count)

    def blame() -> dict[str, str]:
        return {
            messages.at_work[process.pid]: _killed(process.exitcode)
            for process in started
            if process.pid in messages.at_work and process.exitcode not in _ORDINARY
        }

    def submit(name: str, job: Job) -> "Future[tuple[float, Any]]":
        return executor.submit(timed, _call, name, job, data)

    with ProcessPoolExecutor(count, context, _begin, (messages.writer, all_there)) as executor:
        try:
            # A process is started with each of these where it is not forked, and none of them begins before all have.
            for process_id in [executor.submit(os.getpid) for _ in range(count)]:
                process_id.result()
            started = multiprocessing.active_children()
            yield Engine(submit, messages, {BrokenProcessPool: ""}, blame)
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            raise


def _killed(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory; try fewer execution.workers"
    ended = f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"
    return f"its process ended by itself ({ended})"


def worker_count(workers: int | str, jobs: int) -> int:
    """How many processes `workers` means for so many jobs, at most one each; `auto`: one a core that may be used."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(jobs, cores if workers == "auto" else int(workers)))


def _call(name: str, job: Job, data: Path) -> object:
    _messages.send(Begun(os.getpid(), name))
    return job(data, lambda done, total, words: _messages.send(Message(name, done, total, words)))


_messages: Any


def _begin(messages: Any, all_there: Barrier) -> None:
    """Make a new process a worker, once all are there, that writes to the pipe `messages`."""
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the stage, which ends its workers
    threading.Thread(target=_end_with_stage, daemon=True).start()
    begin()
    all_there.wait()


def _end_with_stage() -> None:
    """A stage that is killed takes its workers with it."""
    stage = multiprocessing.parent_process()
    assert stage
    stage.join()
    os._exit(1)
