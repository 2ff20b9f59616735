"""What an engine is: what has jobs done by workers, and what it knows of those that are gone."""

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebench.errors import UserError, plain
from aebench.execution.progress import Messages, Report

Data = Path | bytes
"""A data set's file, or its content where a worker may not see this machine's disk."""
Job = Callable[[Data, Report], Any]


@dataclass(frozen=True)
class Engine:
    """Where jobs run.

    `submit(name, job)` has a worker do it; the future gives the seconds that it took, and its result.
    `messages` is what the jobs report.
    `lost_worker_errors` has the exceptions by which a job ends whose worker is gone, each with the reason where the
    exception itself tells it. Else `blame()` gives the reason for those jobs that are to blame, by name, once the
    engine has ended; the others are to be called again.
    """

    submit: Callable[[str, Job], "Future[tuple[float, Any]]"]
    messages: Messages
    lost_worker_errors: Mapping[type[BaseException], str]
    blame: Callable[[], Mapping[str, str]] = dict


def timed(call: Callable[[str, Any, Any], Any], name: str, job: Any, data: Any) -> tuple[float, Any]:
    """In a worker: `call(name, job, data)`, with the seconds that it took.

    Raises:
        UserError: there is not enough memory.
    """
    started = time.perf_counter()
    try:
        result = call(name, job, data)
    except (MemoryError, RuntimeError) as error:  # torch has a class of its own for the memory of a GPU alone
        if not isinstance(error, MemoryError) and not re.search("allocate|size calculation overflowed", str(error)):
            raise
        raise UserError(
            f"{name}: there is not enough memory ({plain(error)}); try fewer execution.workers, "
            "or smaller settings, such as fewer samples, a smaller batch or narrower layers"
        ) from None
    return time.perf_counter() - started, result
