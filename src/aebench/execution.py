"""Runs to workers: processes side by side, and one progress display for all of them."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aebench.errors import UserError

# Where there is no terminal to draw bars in, a job prints this many lines.
LINES = 10

T = TypeVar("T")
Report = Callable[[int, int, str], None]
"""Told (units done, units in all, a few words; those before a colon name the phase)."""


class _Message(NamedTuple):
    name: str
    done: int
    total: int
    words: str


def processes(workers: int | str, jobs: int) -> int:
    """How many processes `workers` means for so many jobs; `auto` is one a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(jobs, cores if workers == "auto" else int(workers)))


def run_all(jobs: Mapping[str, Callable[[Report], T]], *, workers: int | str, unit: str) -> dict[str, T]:
    """Call every job in a process of its own, one thread each, and show their progress.

    Args:
        jobs: by name; each is picklable and is given a function to report progress to.
        workers: processes side by side, or `auto`.
        unit: what the jobs count, e.g. `epochs`.

    Returns:
        The results by name, in the order of `jobs`, whichever ended first.

    Raises:
        UserError: of the first job that fails; a worker that the system killed is one.
    """
    # Workers forked before any thread has started have torch loaded already; elsewhere than on Linux forks are unsafe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    messages: SimpleQueue[_Message | None] = context.SimpleQueue()
    results = {}
    with ProcessPoolExecutor(processes(workers, len(jobs)), context, _begin, (messages,)) as executor:
        futures = {executor.submit(_call, name, job): name for name, job in jobs.items()}
        try:
            with _display(list(jobs), messages, unit):
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
        except BrokenProcessPool:
            raise UserError("a worker process was killed, perhaps for want of memory; try fewer workers") from None
        finally:
            for future in futures:  # after a failure: those that have not begun
                future.cancel()
    return {name: results[name] for name in jobs}


_messages: "SimpleQueue[_Message | None]"


def _begin(messages: "SimpleQueue[_Message | None]") -> None:
    """Make a new process a worker."""
    global _messages
    _messages = messages
    import torch

    torch.set_num_threads(1)
    # Weights of pixels that are nearly always black leave tiny numbers in Adam's averages, which halve its speed.
    torch.set_flush_denormal(True)


def _call(name: str, job: Callable[[Report], T]) -> T:
    return job(lambda done, total, words: _messages.put(_Message(name, done, total, words)))


@contextmanager
def _display(names: list[str], messages: "SimpleQueue[_Message | None]", unit: str) -> Iterator[None]:
    """Show what `messages` say until the block ends: a bar a job in a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    show = _bars if console.is_terminal else _lines
    thread = threading.Thread(target=show, args=(console, names, iter(messages.get, None), unit), daemon=True)
    thread.start()
    try:
        yield
    finally:
        messages.put(None)
        thread.join()


def _bars(console: Console, names: list[str], messages: Iterator[_Message], unit: str) -> None:
    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TextColumn("{task.fields[words]}"), TimeRemainingColumn(), console=console) as progress:
        tasks = {name: progress.add_task(name, total=None, words="waiting", start=False) for name in names}
        for name, done, total, words in messages:
            if not progress.tasks[tasks[name]].started:
                progress.start_task(tasks[name])
            progress.update(tasks[name], completed=done, total=total, words=words)


def _lines(_: Console, __: list[str], messages: Iterator[_Message], unit: str) -> None:
    begun: dict[tuple[str, str], tuple[int, float]] = {}  # a job does its units at another pace in each phase
    for name, done, total, words in messages:
        now = time.monotonic()
        start, since = begun.setdefault((name, words.split(":")[0]), (done, now))
        left = f", {(now - since) / (done - start) * (total - done):.0f} s left" if done > start else ""
        if done * LINES // total > max(done - 1, 0) * LINES // total:
            print(f"{name}: {done}/{total} {unit}, {words}{left}", file=sys.stderr, flush=True)
