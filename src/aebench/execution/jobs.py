"""Call the jobs of a stage, wherever params.yaml says, unless their results are known."""

import json
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import as_completed
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from aebench.config import Device, Execution
from aebench.errors import UserError
from aebench.execution.engine import Data, Engine
from aebench.execution.progress import Report, display
from aebench.interrupts import handled
from aebench.numerics import Numerics
from aebench.paths import remove, write
from aebench.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class ResultCache(Generic[T]):
    """Results under `keys[name]` of `store`; `pack` makes bytes of one, `unpack` a result of these."""

    store: Store
    keys: Mapping[str, str]
    pack: Callable[[T], bytes]
    unpack: Callable[[bytes], T]

    def load(self) -> dict[str, T]:
        """The results that are in the cache, by name."""
        packed = {name: self.store.get(key) for name, key in self.keys.items()}
        return {name: self.unpack(content) for name, content in packed.items() if content is not None}


def run_all(
    jobs: Mapping[str, Callable[[Data, Report], T]],
    data: Path,
    *,
    execution: Execution,
    numerics: Numerics,
    device: Device = "cpu",
    unit: str,
    record: Path | None = None,
    cache: ResultCache[T] | None = None,
) -> dict[str, T]:
    """Call every job in a worker process, which has one thread, and show their progress.

    Where a job fails the others go on: what they give is kept, and need not be done again.

    Args:
        jobs: by name; each is picklable, and is given the data and a function to report progress to.
        data: the data set's file.
        execution: which engine, and how many workers.
        numerics: what the libraries of a cluster's workers may use; processes here have the limits of this one.
        device: where the jobs compute.
        unit: what the jobs count, e.g. `epochs`.
        record: where to write how long each job took, in seconds, and when they began and ended; nothing is written,
            and an older record removed, where a result was known.
        cache: where to look results up before, and to leave them as they come.

    Returns:
        The results by name, in the order of `jobs`, whichever ended first.

    Raises:
        UserError: of the first job that failed, with its name where its worker was killed; a cluster out of reach; a
            record that cannot be written.
    """
    started_at = time.time()
    seconds: dict[str, float] = {}
    failed: dict[str, UserError] = {}
    results = cache.load() if cache else {}
    if results:
        print(f"taken from the store: {', '.join(results)}", file=sys.stderr, flush=True)
    known = set(results)
    while waiting := {name: job for name, job in jobs.items() if name not in results and name not in failed}:
        with (
            handled(signal.default_int_handler, signal.SIGINT),
            _engine(execution, numerics, device, len(waiting), data) as engine,
            display(list(waiting), engine.messages, unit),
            closing(_outcomes(engine, waiting)) as outcomes,
        ):
            for name, ended in outcomes:
                if isinstance(ended, UserError):
                    failed[name] = ended
                else:
                    seconds[name], results[name] = ended
                    if cache:
                        cache.store.put(cache.keys[name], cache.pack(results[name]))
        lost = [name for name in waiting if name not in results and name not in failed]
        reasons = engine.blame() if lost else {}
        # Where nobody is to blame and nothing was done, trying again would not end.
        if lost and not reasons and len(lost) == len(waiting):
            reasons = dict.fromkeys(lost, "its worker is gone")
        failed |= {name: UserError(f"{name}: {reason}") for name, reason in reasons.items() if name in lost}
    if failed:
        raise next(iter(failed.values()))
    if record and known:
        remove(record)
    elif record:
        write(record, json.dumps({"started_at": started_at, "ended_at": time.time(), "seconds": seconds}))
    return {name: results[name] for name in jobs}


def _outcomes(
    engine: Engine, jobs: Mapping[str, Callable[[Data, Report], T]]
) -> Generator[tuple[str, tuple[float, T] | UserError], None, None]:
    """As each job ends, its seconds and result, or why it failed; of one that was lost without a reason, nothing."""
    futures = {engine.submit(name, job): name for name, job in jobs.items()}
    try:
        for future in as_completed(futures):
            name = futures[future]
            try:
                yield name, future.result()
            except UserError as error:
                yield name, error
            except tuple(engine.lost_worker_errors) as error:
                reasons = (why for kind, why in engine.lost_worker_errors.items() if isinstance(error, kind))
                if reason := next(reasons):
                    yield name, UserError(f"{name}: {reason}")
    finally:
        for future in futures:  # after an interrupt: those that have not begun
            future.cancel()


def _engine(
    execution: Execution, numerics: Numerics, device: Device, jobs: int, data: Path
) -> AbstractContextManager[Engine]:
    if execution.engine == "dask":
        from aebench.execution.cluster import cluster

        assert execution.address is not None
        return cluster(execution.address, numerics, data)
    from aebench.execution.processes import processes

    return processes(execution.workers, jobs, data, device)
