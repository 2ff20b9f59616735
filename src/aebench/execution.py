"""Runs to workers: processes side by side, and one progress display for all of them."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aebench.errors import UserError

# Where there is no terminal to draw bars in, a job prints this many lines.
LINES = 10

T = TypeVar("T")
Report = Callable[[int, int, str], None]
"""Told (units done, units in all, a few words)."""


def processes(workers: int | str, jobs: int) -> int:
    """How many processes `workers` means for so many jobs; `auto` is one a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(jobs, cores if workers == "auto" else int(workers)))


def run_all(jobs: Mapping[str, Callable[[Report], T]], *, workers: int | str, unit: str) -> dict[str, T]:
    """Call every job in a process of its own and show their progress.

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
    with context.Manager() as manager:
        messages: Queue[tuple[str, int, int, str]] = manager.Queue()
        executor: Executor = ProcessPoolExecutor(processes(workers, len(jobs)), mp_context=context)
        with executor:
            futures = {executor.submit(_call, name, job, messages): name for name, job in jobs.items()}
            results = {}
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


def _call(name: str, job: Callable[[Report], T], messages: "Queue[tuple[str, int, int, str]]") -> T:
    import torch

    torch.set_num_threads(1)
    # Weights of pixels that are nearly always black leave tiny numbers in Adam's averages, which halve its speed.
    torch.set_flush_denormal(True)
    return job(lambda done, total, words: messages.put((name, done, total, words)))


@contextmanager
def _display(names: list[str], messages: "Queue[tuple[str, int, int, str]]", unit: str) -> Iterator[None]:
    """A bar a job in a terminal, plain lines elsewhere, fed by `messages` until the block ends."""
    console = Console(stderr=True)
    over = threading.Event()

    def each() -> Iterator[tuple[str, int, int, str]]:
        while not over.is_set():
            try:
                yield messages.get(timeout=0.2)
            except Empty:
                continue
            except (EOFError, OSError):
                return
        while not messages.empty():
            yield messages.get()

    def bars() -> None:
        columns: tuple[Any, ...] = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
        )
        with Progress(*columns, TextColumn("{task.fields[words]}"), TimeRemainingColumn(), console=console) as progress:
            tasks = {name: progress.add_task(name, total=None, words="waiting", start=False) for name in names}
            for name, done, total, words in each():
                if not progress.tasks[tasks[name]].started:
                    progress.start_task(tasks[name])
                progress.update(tasks[name], completed=done, total=total, words=words)

    def lines() -> None:
        begun: dict[tuple[str, str], tuple[int, float]] = {}  # a job does its units at another pace in each phase
        for name, done, total, words in each():
            now = time.monotonic()
            start, since = begun.setdefault((name, words.split(":")[0]), (done, now))
            left = f", {(now - since) / (done - start) * (total - done):.0f} s left" if done > start else ""
            if done * LINES // total > max(done - 1, 0) * LINES // total:
                print(f"{name}: {done}/{total} {unit}, {words}{left}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=bars if console.is_terminal else lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
