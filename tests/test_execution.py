import os
import time
from functools import partial
from typing import Any

import pytest
import torch

from aebench.errors import TrainingError, UserError
from aebench.execution import Report, processes, run_all


def job(name: str, report: Report, pause: float = 0.0) -> tuple[str, int, int]:
    for done in range(1, 21):
        report(done, 20, "work: going on")
    time.sleep(pause)
    return name, os.getpid(), torch.get_num_threads()


def failing(report: Report) -> None:
    raise TrainingError("seed 1: the loss is not finite")


def dying(report: Report) -> None:
    os._exit(9)


def test_results_come_in_the_order_of_the_jobs_whichever_ends_first() -> None:
    jobs = {name: partial(job, name, pause=pause) for name, pause in (("a", 0.3), ("b", 0.0), ("c", 0.0))}
    results = run_all(jobs, workers=2, unit="steps")
    assert [name for name, _, _ in results.values()] == ["a", "b", "c"]
    assert list(results) == ["a", "b", "c"]
    assert {threads for _, _, threads in results.values()} == {1}
    assert os.getpid() not in {process for _, process, _ in results.values()}


def test_where_there_is_no_terminal_progress_is_plain_and_sparse(capfd: pytest.CaptureFixture[str]) -> None:
    run_all({"mine": partial(job, "mine")}, workers=1, unit="steps")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("mine: 20/20 steps, work: going on")
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(("bad", "message"), [(failing, "seed 1"), (dying, "worker process was killed")])
def test_a_failure_is_the_users_to_read(bad: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_all({"good": partial(job, "good"), "bad": bad}, workers=2, unit="steps")


def test_auto_is_one_process_a_core_and_never_more_than_jobs() -> None:
    assert processes("auto", 1) == 1
    assert processes("auto", 10**6) == len(os.sched_getaffinity(0))
    assert processes(3, 2) == 2
    assert processes(3, 10) == 3
