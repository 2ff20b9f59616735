"""A real Dask scheduler and two worker processes on loopback, against processes on this machine."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from clock import slowdown
from cluster_jobs import capability, deadly, dying, dying_once, failing, on_the_shelf, slow
from conftest import ROOT
from servers import listening, silent
from test_evaluate import EVALUATION, config

from aebench.config import Execution
from aebench.errors import UserError
from aebench.evaluation.evaluate import evaluate
from aebench.execution.jobs import ResultCache, run_all
from aebench.paths import Layout
from aebench.store import Store
from aebench.training import cell
from aebench.training.run import train_run
from aebench.training.trained_run import StoredRun, TrainedRun, read_run

distributed = pytest.importorskip("distributed")


@dataclass
class Cluster:
    """Processes on loopback."""

    address: str
    scheduler: "subprocess.Popen[bytes]"
    workers: list["subprocess.Popen[bytes]"]

    @property
    def execution(self) -> Execution:
        return Execution(workers="auto", source_dir=None, engine="dask", address=self.address)


def start(*command: str, folder: Path) -> "subprocess.Popen[bytes]":
    # The project is where a worker looks for it, as if it were installed there; its folder holds nothing of a run.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    file = tmp_path / "scheduler.json"
    scheduler = start(
        "dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
        folder=tmp_path,
    )
    workers = [
        start(
            *("dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"),
            *("--host", "127.0.0.1", "--name", f"worker-{number}"),
            folder=tmp_path,
        )
        for number in range(2)
    ]
    try:
        with distributed.Client(scheduler_file=str(file), timeout=120, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
            address = client.scheduler.address
        yield Cluster(address, scheduler, workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


HERE = Execution(workers=2, source_dir=None)


def train(data: Path, execution: Execution, seeds: int = 2) -> dict[str, TrainedRun]:
    jobs = {f"vae seed {seed}": partial(train_run, config("vae"), "digits", seed) for seed in range(seeds)}
    return run_all(jobs, data, execution=execution, numerics="native", unit="epochs")


def test_training_and_evaluation_are_bit_identical_to_local_processes(
    cluster: Cluster, digits_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here, there = train(digits_file, HERE), train(digits_file, cluster.execution)
    assert [run.files for run in here.values()] == [run.files for run in there.values()]
    assert "vae seed 1: 3/3 epochs" in capfd.readouterr().err  # what the workers report comes back
    stored: list[StoredRun] = []
    for name, run in here.items():
        run.write(tmp_path / name)
        stored.append(read_run(tmp_path / name))
    jobs = {f"seed {seed}": partial(evaluate, run, EVALUATION) for seed, run in enumerate(stored)}
    results = [
        run_all(jobs, digits_file, execution=execution, numerics="native", unit="images")
        for execution in (HERE, cluster.execution)
    ]
    assert [run.npz() for run in results[0].values()] == [run.npz() for run in results[1].values()]
    assert [run.metrics for run in results[0].values()] == [run.metrics for run in results[1].values()]


def test_a_job_has_the_numerics_that_were_asked_for_whatever_the_worker_was_started_with(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(b"the data")
    for numerics, replaced in (("native", False), ("portable", True)):
        found = run_all(
            {"job": capability},  # type: ignore[dict-item]
            tmp_path / "data",
            execution=cluster.execution,
            numerics=numerics,  # type: ignore[arg-type]
            unit="steps",
        )["job"]
        assert found[1:] == (replaced, 1, b"the data")
        if replaced:
            assert found[0] in ("AVX2", "DEFAULT")


def test_the_runs_of_a_worker_that_dies_are_done_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"the data")
    folder = tmp_path / "traces"
    folder.mkdir()
    killer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, pathlib, psutil, signal, sys, time\n"
            "folder, victim = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
            "while len(list(folder.iterdir())) < 2: time.sleep(0.05)\n"
            "os.kill(victim, signal.SIGKILL)\n"
            "while psutil.Process(victim).status() != psutil.STATUS_ZOMBIE: time.sleep(0.05)\n"
            "(folder / 'end').touch()\n",
            str(folder),
            str(cluster.workers[0].pid),
        ]
    )
    jobs = {name: partial(slow, folder, name) for name in ("a", "b")}
    execution = cluster.execution
    results = run_all(jobs, tmp_path / "data", execution=execution, numerics="native", unit="steps")  # type: ignore[arg-type]
    assert results == {"a": "a", "b": "b"}
    assert killer.wait() == 0
    assert cluster.workers[0].wait() == -signal.SIGKILL
    started = sorted(path.name.split("-")[0] for path in folder.iterdir() if path.name != "end")
    assert started in (["a", "a", "b"], ["a", "b", "b"])
    # The first process of the job that was begun twice has ended with its worker.
    for path in folder.glob("*-*"):
        with suppress(psutil.NoSuchProcess):
            orphan = psutil.Process(int(path.name.split("-")[1]))
            assert orphan.status() == psutil.STATUS_ZOMBIE or orphan.wait(timeout=60) is None


def test_a_run_goes_on_from_the_checkpoint_that_a_dead_worker_left(
    cluster: Cluster, digits_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers share no disk. No epoch is trained twice, and in the end nothing is left with the scheduler."""
    monkeypatch.setattr(cell, "INTERVAL_ON_A_CLUSTER", 0.0)
    folder, own = tmp_path / "epochs", config("vae")
    folder.mkdir()
    work, cache = cell.jobs(
        own, "digits", "data", "code", [0], Layout(tmp_path), Store(tmp_path / "store", 0), local=False
    )
    (name,) = work
    names = [cache.keys[name].replace(".run", ".checkpoint"), "nothing"]

    def on_cluster(jobs: dict[str, Any]) -> dict[str, Any]:
        return run_all(jobs, digits_file, execution=cluster.execution, numerics="native", unit="epochs")

    found = on_cluster({name: partial(dying_once, folder, work[name])})
    assert found[name] == [train_run(own, "digits", 0, digits_file, lambda *_: None).files]
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]
    assert on_cluster({entry: partial(on_the_shelf, entry) for entry in names}) == dict.fromkeys(names)


def test_failures_on_a_cluster_are_the_users_to_read(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"the data")
    for bad, message in ((failing, "seed 1: the loss is not finite"), (dying, "bad: its process on .* was killed")):
        with pytest.raises(UserError, match=message):
            run_all(
                {"bad": bad},  # type: ignore[dict-item]
                tmp_path / "data",
                execution=cluster.execution,
                numerics="native",
                unit="steps",
            )


def test_a_job_that_takes_its_workers_with_it_is_named_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    cluster: Cluster = request.getfixturevalue("cluster")
    (tmp_path / "data").write_bytes(b"")
    jobs = {"good": capability, "bad": partial(deadly, tmp_path)}
    store = Store(tmp_path / "store", 10**6)
    cache: ResultCache[Any] = ResultCache(store, {name: name for name in jobs}, pickle.dumps, pickle.loads)
    with pytest.raises(UserError, match=r"^bad: several workers died of it, .* want of memory$"):
        run_all(jobs, tmp_path / "data", execution=cluster.execution, numerics="native", unit="steps", cache=cache)
    assert store.get("good")


def test_a_scheduler_that_dies_in_the_middle_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")

    def fell() -> None:
        while not list(tmp_path.glob("one-*")):
            time.sleep(0.05)
        cluster.scheduler.kill()

    threading.Thread(target=fell).start()
    jobs = {name: partial(slow, tmp_path, name) for name in ("one", "two")}
    said = r"^(one|two): the connection to the scheduler at tcp://\S+ broke; run the stage again$"
    with pytest.raises(UserError, match=said):
        run_all(jobs, tmp_path / "data", execution=cluster.execution, numerics="native", unit="steps")


@pytest.mark.parametrize("port", [9, None])
def test_a_scheduler_that_does_not_answer_is_one_line_within_15_seconds(port: int | None, tmp_path: Path) -> None:
    """Nobody listens, or someone who says nothing."""
    (tmp_path / "data").write_bytes(b"the data")
    with nullcontext(port) if port else listening(silent) as port:
        address = f"tcp://127.0.0.1:{port}"
        execution = Execution(workers="auto", source_dir=None, engine="dask", address=address)
        begun = time.monotonic()
        with pytest.raises(UserError, match=rf"no Dask scheduler answers at {address} \(.+\)") as caught:
            run_all({"bad": failing}, tmp_path / "data", execution=execution, numerics="native", unit="steps")  # type: ignore[dict-item]
        assert time.monotonic() - begun < 15 * slowdown()
    assert "\n" not in str(caught.value)


def test_a_scheduler_without_workers_says_how_to_start_some(cluster: Cluster, tmp_path: Path) -> None:
    for worker in cluster.workers:
        worker.kill()
        worker.wait()
    (tmp_path / "data").write_bytes(b"the data")
    with pytest.raises(UserError, match=r"has no workers; start some: dask worker tcp://127\.0\.0\.1:\d+ --nthreads 1"):
        run_all({"bad": failing}, tmp_path / "data", execution=cluster.execution, numerics="native", unit="steps")  # type: ignore[dict-item]
