"""Workers of a Dask cluster: more than one machine, and no disk that they share.

A Dask worker has its numerical libraries loaded when a job arrives, with whatever limits it was started with. So it
runs the job in a process of its own, `subprocess_worker.py`, whose limits are those of `numerics` and whose threads are
one; a result is then the same as on one machine. Where a worker dies, Dask gives its job to another.
"""

import asyncio
import os
import pickle
import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aebench import numerics as limits
from aebench.errors import UserError
from aebench.execution.engine import Engine, Job, timed
from aebench.execution.progress import Message, Messages
from aebench.fingerprint import LIBRARIES, code_hash, source_files
from aebench.numerics import Numerics

# How many seconds a scheduler may take to be reached, and as many to answer; and how long to wait for its first worker.
TIMEOUT = 5.0
# And how long to wait for an entry to appear that is there already, or not at all.
AT_ONCE = 0.1


@contextmanager
def cluster(address: str, numerics: Numerics, data: Path) -> Iterator[Engine]:
    """Connect to the scheduler at `address`, and send its workers the content of the file `data`.

    Raises:
        UserError: Dask is not installed, nobody answers within seconds, or there are no workers.
    """
    try:
        import dask
        from distributed import Client, KilledWorker, Security
        from distributed.comm import connect
    except ModuleNotFoundError:
        raise UserError("execution.engine: dask needs the package distributed: pip install 'aebench[dask]'") from None
    try:
        # A client would wait for ever for the first word of what takes connections and says nothing.
        greeting = connect(address, timeout=TIMEOUT, **Security().get_connection_args("client"))
        asyncio.run(asyncio.wait_for(greeting, 2 * TIMEOUT)).abort()
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # the last of a protocol that is not set up here
        reason = " ".join(str(error).split()) or "it takes connections and says nothing"
        raise UserError(f"execution.address: no Dask scheduler answers at {address} ({reason})") from None
    messages, topic = Messages(), f"aebench-{uuid.uuid4()}"
    with client:
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError:
            raise UserError(
                f"execution.address: the scheduler at {address} has no workers; start some: "
                f"dask worker {address} --nthreads 1"
            ) from None
        client.subscribe_topic(topic, lambda event: messages.writer.send(Message(*event[1])))
        # As the result of a task, the scheduler makes it anew where the workers are gone that had it; what is scattered
        # would be lost, since the scheduler itself leaves but one copy of it after a while.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            sent = client.submit(bytes, data.read_bytes(), pure=False)
        executor, call = client.get_executor(pure=False), partial(_run, numerics, identity(numerics), topic)

        def submit(name: str, job: Job) -> "Future[tuple[float, Any]]":
            future: Future[tuple[float, Any]] = executor.submit(timed, call, name, pickle.dumps(job), sent)
            return future

        lost = {
            KilledWorker: "several workers died of it, one after the other, perhaps for want of memory",
            CancelledError: f"the connection to the scheduler at {address} broke; run the stage again",
        }
        yield Engine(submit, messages, lost)


def identity(numerics: Numerics) -> dict[str, str]:
    """What decides whether a worker would give the same results: this package's code, versions, the kind of CPU."""
    package = Path(__file__).resolve().parents[1]
    code = code_hash((path for path in source_files(package) if path.suffix == ".py"), package)
    versions = {f"version of {name}": version(name) for name in LIBRARIES}
    cpu = f"{platform.machine()} with{'' if limits.has_avx2() else 'out'} AVX2 and FMA"
    return {"version of aebench's code": code[:16], **versions, **({"CPU": cpu} if numerics == "portable" else {})}


class SchedulerShelf:
    """Entries that a job leaves with the scheduler of its cluster: another worker, or another stage, finds them there.

    It is for use within a job. Whatever fails here costs time, never a result.
    """

    def get(self, name: str) -> bytes | None:
        """The content of an entry; None where there is none."""
        content: bytes | None = self._ask(name, lambda entry: entry.get(timeout=AT_ONCE))
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep `content` under `name`."""
        self._ask(name, lambda entry: entry.set(content))

    def discard(self, name: str) -> None:
        """Forget an entry."""
        self._ask(name, lambda entry: entry.delete())

    def _ask(self, name: str, what: Callable[[Any], Any]) -> Any:
        """What the scheduler answers; None where there is no answer."""
        from distributed import Client, Variable

        # Checkpoints are far apart: a connection is not kept for them, with its thread.
        with suppress(OSError, TimeoutError), Client(timeout=TIMEOUT, set_as_default=False) as client:
            return what(Variable(name, client=client))
        return None


def _run(numerics: Numerics, expected: dict[str, str], topic: str, name: str, job: bytes, data: bytes) -> object:
    """In a Dask worker: the job in a fresh process, whose messages are passed on."""
    from distributed import get_worker

    worker, own = get_worker(), identity(numerics)
    for what, value in expected.items():
        if own[what] != value:
            same = (
                "have CPUs of one kind" if what == "CPU" else "install the same on all machines, from constraints.txt"
            )
            raise UserError(f"the Dask worker {worker.address} has another {what} ({own[what]}, here {value}): {same}")
    process = subprocess.Popen(
        [sys.executable, "-m", "aebench.execution.subprocess_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=limits.environment(numerics)
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "DASK_SCHEDULER_ADDRESS": worker.scheduler.address},
    )
    assert process.stdin
    assert process.stdout
    try:
        # The pipe stays open until the end: where this worker dies, its process notices and ends too.
        pickle.dump((job, data), process.stdin)
        process.stdin.flush()
        while True:
            kind, content = pickle.load(process.stdout)
            if kind == "progress":
                worker.log_event(topic, [name, *content])
            elif kind == "error":
                raise content
            else:
                return content
    except EOFError:
        raise UserError(f"{name}: its process on {worker.address} was killed, perhaps for want of memory") from None
    finally:
        process.kill()
        process.wait()
