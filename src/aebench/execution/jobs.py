"""Call the jobs of a stage, wherever params.yaml says."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from aebench.config import Execution
from aebench.errors import UserError
from aebench.execution.engine import Data, Engine
from aebench.execution.progress import Report, display
from aebench.numerics import Numerics

T = TypeVar("T")


def run_all(
    jobs: Mapping[str, Callable[[Data, Report], T]],
    data: Path,
    *,
    execution: Execution,
    numerics: Numerics,
    unit: str,
    record: Path | None = None,
) -> dict[str, T]:
    """Call every job in a process of its own, one thread each, and show their progress.

    Args:
        jobs: by name; each is picklable, and is given the data and a function to report progress to.
        data: the data set's file.
        execution: which engine, and how many workers.
        numerics: what the workers' libraries may use.
        unit: what the jobs count, e.g. `epochs`.
        record: where to write how long each job took, in seconds, and when they began and ended.

    Returns:
        The results by name, in the order of `jobs`, whichever ended first.

    Raises:
        UserError: of the first job that fails; a worker that the system killed is one, a cluster out of reach another.
    """
    started_at = time.time()
    results, seconds = {}, {}
    with _engine(execution, numerics, len(jobs), data) as engine:
        futures = {
            engine.executor.submit(_timed, engine.call, name, engine.pack(job), engine.data): name
            for name, job in jobs.items()
        }
        try:
            with display(list(jobs), engine.messages, unit):
                for future in as_completed(futures):
                    name = futures[future]
                    seconds[name], results[name] = future.result()
        except BrokenProcessPool:
            raise UserError("a worker process was killed, perhaps for want of memory; try fewer workers") from None
        finally:
            for future in futures:  # after a failure: those that have not begun
                future.cancel()
    if record:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"started_at": started_at, "ended_at": time.time(), "seconds": seconds}))
    return {name: results[name] for name in jobs}


def _timed(call: Callable[[str, Any, Any], Any], name: str, job: Any, data: Any) -> tuple[float, Any]:
    """In a worker: a job with the seconds that it took."""
    started = time.perf_counter()
    result = call(name, job, data)
    return time.perf_counter() - started, result


def _engine(execution: Execution, numerics: Numerics, jobs: int, data: Path) -> AbstractContextManager[Engine]:
    if execution.engine == "dask":
        from aebench.execution.cluster import cluster

        assert execution.address is not None
        return cluster(execution.address, numerics, data)
    from aebench.execution.processes import processes

    return processes(execution.workers, jobs, data)
