"""What an engine is: an executor, and how a job is called in one of its workers."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebench.execution.progress import Messages, Report

Data = Path | bytes
"""A data set's file, or its content where a worker may not see this machine's disk."""
Job = Callable[[Data, Report], Any]


@dataclass(frozen=True)
class Engine:
    """Where jobs run.

    `call(name, job, data)` is what `executor` is given to call in a worker, with what `pack` makes of the job; `data`
    is what it is given as data there.
    `messages` is what the jobs report.
    `lost_worker_errors` has the exceptions by which a job ends whose worker is gone, each with the reason where the
    exception itself tells it. Else `blame()` gives the reason for those jobs that are to blame, by name, once the
    engine has ended; the others are to be called again.
    """

    executor: Executor
    pack: Callable[[Job], Any]
    call: Callable[[str, Any, Any], Any]
    data: Any
    messages: Messages
    lost_worker_errors: Mapping[type[BaseException], str]
    blame: Callable[[], Mapping[str, str]] = dict
