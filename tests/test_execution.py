import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aebench.config import Execution
from aebench.errors import TrainingError, UserError
from aebench.execution.jobs import ResultCache, run_all
from aebench.execution.processes import worker_count
from aebench.execution.progress import Report
from aebench.store import Store

# Workers that are not forked import this file: conftest.py would find their libraries loaded.
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(b"the data")
    return tmp_path / "data"


def run(jobs: dict[str, Any], data: Path, workers: int, **options: Any) -> dict[str, Any]:
    execution = Execution(workers=workers, source_dir=None)
    return run_all(jobs, data, execution=execution, numerics="native", unit="steps", **options)


def job(
    name: str, data: Path, report: Report, after: Path | None = None, reports: int = 20
) -> tuple[str, int, int, bytes]:
    for done in range(1, reports + 1):
        report(done, reports, "work: going on")
    while after and not after.exists():
        time.sleep(0.01)
    (data.parent / name).touch()
    return name, os.getpid(), torch.get_num_threads(), data.read_bytes()


def failing(data: Path, report: Report) -> None:
    raise TrainingError("seed 1: the loss is not finite")


def ending(data: Path, report: Report) -> None:
    os._exit(9)


def dying(data: Path, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def too_large(data: Path, report: Report, library: str) -> None:
    sizes = {"numpy": (2**55,), "torch": (2**60,), "torch, whose sizes overflow": (2**40, 2**40)}[library]
    np.empty(sizes) if library == "numpy" else torch.empty(sizes)


@pytest.mark.parametrize("library", ["numpy", "torch", "torch, whose sizes overflow"])
def test_a_job_that_finds_too_little_memory_is_one_line(data: Path, library: str) -> None:
    with pytest.raises(
        UserError, match=r"^vae seed 0: there is not enough memory \(.*(llocate|overflowed).*\); try fewer "
    ):
        run({"vae seed 0": partial(too_large, library=library)}, data, 1)


def test_results_come_in_the_order_of_the_jobs_whichever_ends_first(data: Path) -> None:
    jobs = {"a": partial(job, "a", after=data.parent / "c"), "b": partial(job, "b"), "c": partial(job, "c")}
    results = run(jobs, data, 2)
    assert [name for name, *_ in results.values()] == ["a", "b", "c"]
    assert list(results) == ["a", "b", "c"]
    assert {(threads, content) for _, _, threads, content in results.values()} == {(1, b"the data")}
    assert os.getpid() not in {process for _, process, *_ in results.values()}


def begun(data: Path, report: Report) -> tuple[str | None, int]:
    return multiprocessing.get_start_method(), torch.get_num_threads()


def test_workers_that_use_a_gpu_are_not_forked(data: Path) -> None:
    """CUDA does not survive a fork."""
    execution = Execution(workers=1, source_dir=None)
    found = run_all({"a": begun}, data, execution=execution, numerics="native", device="cuda", unit="steps")
    assert found["a"] == ("spawn", 1)


def test_where_there_is_no_terminal_progress_is_plain_and_sparse(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run({"mine": partial(job, "mine")}, data, 1)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("mine: 20/20 steps, work: going on")
    assert "\x1b" not in "".join(lines)


def in_groups(size: int, images: int, data: Path, report: Report) -> None:
    for done in range(size, images + size, size):
        report(min(done, images), images, "log-likelihood")


@pytest.mark.parametrize("size", [33, 48, 100])
def test_there_is_a_line_for_each_tenth_whatever_is_reported_at_a_time(
    size: int, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run({"mine": partial(in_groups, size, 1000)}, data, 1)
    lines = capfd.readouterr().err.splitlines()
    tenths = [int(line.removeprefix("mine: ").split("/")[0]) // 100 for line in lines]
    assert tenths == list(range(1, 11))


def test_in_a_terminal_there_is_a_bar_a_job_and_one_for_all(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    run({name: partial(job, name) for name in ("first", "second")}, data, 2)
    drawn = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capfd.readouterr().err)
    last = drawn[drawn.rindex("all together") :].splitlines()
    assert [line.split()[0] for line in last if line.strip()] == ["all", "first", "second"]
    assert [re.search(r"\d+/\d+ *steps +[\d.e+]+/s", line) is not None for line in last if line.strip()] == [True] * 3
    assert "40/40" in last[0]
    assert "work: going on" in last[1]


def elsewhere(data: Path, *lines: str, stderr: int | None = None, **environment: str) -> int:
    """Run a script, to which `data` is known, in a process of its own, a minute at most; its exit code."""
    script = "import sys; from pathlib import Path; import conftest, test_execution as t; data = Path(sys.argv[1])"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    command = [sys.executable, "-c", "\n".join([script, *lines]), str(data)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path, **environment}, stderr=stderr, timeout=60, check=False
    )
    return done.returncode


@pytest.mark.parametrize("form", [{}, {"FORCE_COLOR": "1"}], ids=["lines", "bars"])
@pytest.mark.parametrize("end", ["full", "gone"])
def test_where_progress_cannot_be_written_the_jobs_go_on(end: str, form: dict[str, str], data: Path) -> None:
    """A disk is full, or the reader of a pipe has ended; either way the pipe of reports must not fill."""
    if end == "full":
        stderr = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stderr = os.pipe()
        os.close(reader)
    elsewhere(
        data,
        "jobs = {'a': t.partial(t.job, 'a', reports=5000), 'b': t.partial(t.job, 'b')}",
        "(data.parent / 'done').write_text(' '.join(t.run(jobs, data, 2)))",
        stderr=stderr,
        **form,
    )
    os.close(stderr)
    assert (data.parent / "done").read_text() == "a b"


def small(data: Path, report: Report) -> int:
    return 1


def test_thousands_of_jobs_end(data: Path) -> None:
    """More than any pipe between the processes holds at once."""
    jobs = "{f'job number {number}': t.small for number in range(2000)}"
    assert elsewhere(data, f"jobs = {jobs}", "assert t.run(jobs, data, 2) == dict.fromkeys(jobs, 1)") == 0


KILLED = "^bad: its process was killed, perhaps for want of memory; try fewer execution.workers$"


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(
    ("bad", "message"), [(failing, "seed 1"), (dying, KILLED), (ending, r"^bad: .* by itself \(exit code 9\)$")]
)
def test_a_failure_names_the_job_and_the_others_are_done_and_kept(
    bad: Any, message: str, workers: int, data: Path
) -> None:
    jobs = {"first": partial(job, "first"), "bad": bad, "last": partial(job, "last")}
    store = Store(data.parent / "store", 10**6)
    cache = ResultCache(store, {name: name for name in jobs}, pickle.dumps, pickle.loads)
    with pytest.raises(UserError, match=message):
        run(jobs, data, workers, cache=cache)
    assert {name for name in jobs if store.get(name)} == {"first", "last"}


def killed_at_first(name: str, data: Path, report: Report) -> str:
    """Never ends, unless it has been begun before."""
    begun = data.parent / f"{name} begun"
    while not begun.exists():
        begun.touch()
        while True:
            time.sleep(0.01)
    return name


def dying_among(others: tuple[str, ...], data: Path, report: Report) -> None:
    while not all((data.parent / f"{name} begun").exists() for name in others):
        time.sleep(0.01)
    dying(data, report)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_whoever_was_killed_beside_it_is_not_blamed(device: str, data: Path) -> None:
    """Workers that are not forked, as those that use a GPU, may start one by one."""
    others = ("first", "last")
    jobs = {name: partial(killed_at_first, name) for name in others}
    jobs = {"first": jobs["first"], "bad": partial(dying_among, others), "last": jobs["last"]}
    store = Store(data.parent / "store", 10**6)
    cache = ResultCache(store, {name: name for name in jobs}, pickle.dumps, pickle.loads)
    with pytest.raises(UserError, match=KILLED):
        run(jobs, data, 3, cache=cache, device=device)
    assert {name for name in jobs if store.get(name)} == {*others}


def test_what_is_kept_is_not_done_again(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = {name: partial(job, name) for name in ("one", "two", "three")}
    cache = ResultCache(Store(data.parent / "store", 10**6), {name: name for name in jobs}, pickle.dumps, pickle.loads)
    record = data.parent / "record.json"
    first = run({"two": jobs["two"]}, data, 1, cache=cache, record=record)
    assert set(json.loads(record.read_bytes())["seconds"]) == {"two"}
    for made in ("one", "two", "three"):
        (data.parent / made).unlink(missing_ok=True)
    both = run(jobs, data, 2, cache=cache, record=record)
    assert list(both) == ["one", "two", "three"]
    assert both["two"] == first["two"]
    assert not (data.parent / "two").exists()
    assert (data.parent / "one").exists()
    assert not record.exists()  # it would tell of less than the stage's work
    assert "taken from the store: two" in capfd.readouterr().err


def test_an_interrupt_ends_the_workers_at_once(tmp_path: Path) -> None:
    """As does the death of the stage itself."""
    script = (
        "import sys; from pathlib import Path; import conftest, test_execution as t\n"
        "from functools import partial\n"
        "folder = Path(sys.argv[1]); (folder / 'data').write_bytes(b'')\n"
        "never = partial(t.job, 'a', after=folder / 'never')\n"
        "t.run({'a': never, 'b': never}, folder / 'data', 2)\n"
    )
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        folder = tmp_path / sent.name
        folder.mkdir()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
        command = [sys.executable, "-c", script, str(folder)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as stage:
            assert stage.stderr
            begun: set[bytes] = set()
            while begun < {b"a", b"b"} and (line := stage.stderr.readline()):
                begun |= {line.split(b":")[0]} if b"20/20" in line else set()
            assert begun == {b"a", b"b"}
            stage.send_signal(sent)
            stage.communicate(timeout=120)  # which waits for all processes that hold the pipe, workers too
            assert stage.returncode != 0


def test_auto_is_one_process_a_core_and_never_more_than_jobs() -> None:
    assert worker_count("auto", 1) == 1
    assert worker_count("auto", 10**6) == len(os.sched_getaffinity(0))
    assert worker_count(3, 2) == 2
    assert worker_count(3, 10) == 3
