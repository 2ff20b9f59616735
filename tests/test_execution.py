import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from aebench.config import Execution
from aebench.errors import TrainingError, UserError
from aebench.execution.jobs import run_all
from aebench.execution.processes import how_many
from aebench.execution.progress import Report


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(b"the data")
    return tmp_path / "data"


def run(jobs: dict[str, Any], data: Path, workers: int) -> dict[str, Any]:
    execution = Execution(workers=workers, source_dir=None)
    return run_all(jobs, data, execution=execution, numerics="native", unit="steps")


def job(name: str, data: Path, report: Report, after: Path | None = None) -> tuple[str, int, int, bytes]:
    for done in range(1, 21):
        report(done, 20, "work: going on")
    while after and not after.exists():
        time.sleep(0.01)
    (data.parent / name).touch()
    return name, os.getpid(), torch.get_num_threads(), data.read_bytes()


def failing(data: Path, report: Report) -> None:
    raise TrainingError("seed 1: the loss is not finite")


def dying(data: Path, report: Report) -> None:
    os._exit(9)


def test_results_come_in_the_order_of_the_jobs_whichever_ends_first(data: Path) -> None:
    jobs = {"a": partial(job, "a", after=data.parent / "c"), "b": partial(job, "b"), "c": partial(job, "c")}
    results = run(jobs, data, 2)
    assert [name for name, *_ in results.values()] == ["a", "b", "c"]
    assert list(results) == ["a", "b", "c"]
    assert {(threads, content) for _, _, threads, content in results.values()} == {(1, b"the data")}
    assert os.getpid() not in {process for _, process, *_ in results.values()}


def test_where_there_is_no_terminal_progress_is_plain_and_sparse(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run({"mine": partial(job, "mine")}, data, 1)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("mine: 20/20 steps, work: going on")
    assert "\x1b" not in "".join(lines)


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


@pytest.mark.parametrize(("bad", "message"), [(failing, "seed 1"), (dying, "worker process was killed")])
def test_a_failure_is_the_users_to_read(bad: Any, message: str, data: Path) -> None:
    with pytest.raises(UserError, match=message):
        run({"good": partial(job, "good"), "bad": bad}, data, 2)


def test_auto_is_one_process_a_core_and_never_more_than_jobs() -> None:
    assert how_many("auto", 1) == 1
    assert how_many("auto", 10**6) == len(os.sched_getaffinity(0))
    assert how_many(3, 2) == 2
    assert how_many(3, 10) == 3
