"""One progress display for all the jobs of a stage."""

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    """What a job reports, with its name: units done, units in all, a few words."""

    name: str
    done: int
    total: int
    words: str


class Begun(NamedTuple):
    """What a worker process says before a job: its number, and the job's name."""

    process: int
    name: str


class Messages:
    """A pipe for `Message`s and `Begun`, and None at their end; `at_work` has each process's latest job.

    One write is one message, whoever writes: no lock, which a worker that is killed could take with it.
    """

    def __init__(self) -> None:
        self._reader, self.writer = multiprocessing.Pipe(duplex=False)
        self.at_work: dict[int, str] = {}

    def __iter__(self) -> Iterator[Message]:
        for sent in iter(self._reader.recv, None):
            if isinstance(sent, Begun):
                self.at_work[sent.process] = sent.name
            else:
                yield sent


@contextmanager
def display(names: list[str], messages: Messages, unit: str) -> Iterator[None]:
    """Show what comes through `messages` until the block ends.

    In a terminal that is a bar a job and one for all of them, with rates and times left; elsewhere, plain lines on
    standard error. Where that cannot be written to, the jobs go on unseen.
    """
    console = Console(stderr=True)
    show = _bars if console.is_terminal else _lines
    coming = iter(messages)

    def read() -> None:
        with suppress(OSError, SystemExit):  # nobody can see it any more; at a broken pipe, rich ends the thread
            show(console, names, coming, unit)
        for _ in coming:  # a full pipe would stop the jobs
            pass

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        messages.writer.send(None)
        thread.join()


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
    said: dict[tuple[str, str], int] = {}  # tenths
    for name, done, total, words in messages:
        now, phase = time.monotonic(), (name, words.split(":")[0])
        start, since = begun.setdefault(phase, (done, now))
        left = f", {(now - since) / (done - start) * (total - done):.0f} s left" if done > start else ""
        if (tenth := done * LINES // total) > said.get(phase, 0):
            said[phase] = tenth
            print(f"{name}: {done}/{total} {unit}, {words}{left}", file=sys.stderr, flush=True)
