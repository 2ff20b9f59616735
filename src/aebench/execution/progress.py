"""One progress display for all the jobs of a stage."""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Where there is no terminal to draw bars in, a job prints this many lines.
LINES = 10

Report = Callable[[int, int, str], None]
"""Told (units done, units in all, a few words; those before a colon name the phase)."""


class Message(NamedTuple):
    """What a job reports, with its name."""

    name: str
    done: int
    total: int
    words: str


@contextmanager
def display(names: list[str], messages: Any, unit: str) -> Iterator[None]:
    """Show what the queue `messages` says until the block ends.

    In a terminal that is a bar a job and one for all of them, with rates and times left; elsewhere, plain lines.
    """
    console = Console(stderr=True)
    show = _bars if console.is_terminal else _lines
    thread = threading.Thread(target=show, args=(console, names, iter(messages.get, None), unit), daemon=True)
    thread.start()
    try:
        yield
    finally:
        messages.put(None)
        thread.join()


def local_queue() -> "queue.SimpleQueue[Message | None]":
    """A queue for messages that threads of this process put."""
    return queue.SimpleQueue()


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g}/s" if speed else "")


def _bars(console: Console, names: list[str], messages: Iterator[Message], unit: str) -> None:
    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    columns += (_Rate(), TextColumn("{task.fields[words]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        together = progress.add_task("all together", total=None, words="", start=False, visible=len(names) > 1)
        tasks = {name: progress.add_task(name, total=None, words="waiting", start=False) for name in names}
        for name, done, total, words in messages:
            for task in (together, tasks[name]):
                if not progress.tasks[task].started:
                    progress.start_task(task)
            progress.update(tasks[name], completed=done, total=total, words=words)
            # Runs that have not begun are taken to be as long as this one.
            lengths = [progress.tasks[task].total or total for task in tasks.values()]
            all_done = sum(progress.tasks[task].completed for task in tasks.values())
            progress.update(together, completed=all_done, total=sum(lengths))


def _lines(_: Console, __: list[str], messages: Iterator[Message], unit: str) -> None:
    begun: dict[tuple[str, str], tuple[int, float]] = {}  # a job does its units at another pace in each phase
    for name, done, total, words in messages:
        now = time.monotonic()
        start, since = begun.setdefault((name, words.split(":")[0]), (done, now))
        left = f", {(now - since) / (done - start) * (total - done):.0f} s left" if done > start else ""
        if done * LINES // total > max(done - 1, 0) * LINES // total:
            print(f"{name}: {done}/{total} {unit}, {words}{left}", file=sys.stderr, flush=True)
