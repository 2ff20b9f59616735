"""Runs in training, shown in MLflow from outside: the files that a training leaves, written here, and a real store."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from results import CELLS, Results, tags

from aebench.paths import HISTORY, Layout
from aebench.tracking.client import StoreError
from aebench.tracking.watch import Watch
from aebench.training.settings import read_params

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return results.copy(tmp_path / "checkout")


@pytest.fixture
def watching(checkout: Results) -> Watch:
    params = read_params(checkout.root / "params.yaml")
    return Watch(params, Layout(checkout.root))


def history(checkout: Results, seed: int = 0) -> list[str]:
    """The lines of a finished run's history, the header first."""
    path = Layout(checkout.root).run("digits", "ae", seed) / HISTORY
    return path.read_text().splitlines(keepends=True)


def write(checkout: Results, text: str, seed: int = 0) -> Path:
    path = Layout(checkout.root).live_history("digits", "ae", seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def live(checkout: Results) -> list[Run]:
    """The runs that are or were shown while in training."""
    found = checkout.runs().get("", [])
    assert all(tags(run)["aebench.live"] == "digits/ae/seed-0" for run in found)
    return found


def epochs(checkout: Results, run: Run) -> list[tuple[int, float]]:
    points = MlflowClient(checkout.store).get_metric_history(run.info.run_id, "validation_loss")
    return [(point.step, point.value) for point in points]


def expected(lines: list[str]) -> list[tuple[int, float]]:
    column = lines[0].rstrip().split(",").index("validation_loss")
    return [(epoch, float(line.split(",")[column])) for epoch, line in enumerate(lines[1:], start=1)]


def test_a_run_is_shown_as_it_grows_and_gives_way_to_its_results(checkout: Results, watching: Watch) -> None:
    assert watching.look() == []
    lines = history(checkout)
    path = write(checkout, "".join(lines[:2]) + lines[2][:20])  # the second epoch is being written
    assert watching.look() == ["digits/ae seed 0: in training"]
    (run,) = live(checkout)
    assert run.info.status == "RUNNING"
    assert run.data.params["training.epochs"] == "3"
    assert tags(run)["aebench.superseded"] == "false"
    assert epochs(checkout, run) == expected(lines[:2])
    path.write_text("")  # training writes the file anew each time
    assert watching.look() == []
    path.write_text("".join(lines[:3]))
    assert watching.look() == []
    assert watching.look() == []
    (run,) = live(checkout)
    assert epochs(checkout, run) == expected(lines[:3])
    path.unlink()  # the stage has written its results
    assert watching.look() == ["digits/ae seed 0: finished"]
    (run,) = live(checkout)
    assert run.info.status == "FINISHED"
    assert epochs(checkout, run) == expected(lines)
    assert "6 runs added" in checkout.track()
    assert sorted(checkout.runs()) == CELLS


def test_a_training_that_ends_without_results_was_killed(checkout: Results, watching: Watch) -> None:
    lines = history(checkout)
    path = write(checkout, "".join(lines[:3]))
    watching.look()
    shutil.rmtree(checkout.root / "runs/digits/ae")
    path.unlink()
    assert watching.look() == ["digits/ae seed 0: killed"]
    (run,) = live(checkout)
    assert run.info.status == "KILLED"


def test_a_training_that_begins_anew_is_another_run(checkout: Results, watching: Watch) -> None:
    lines, others = history(checkout), history(checkout, 1)
    write(checkout, "".join(lines[:3]))
    watching.look()
    write(checkout, "".join(others[:3]))
    watching.look()
    (run,) = live(checkout)
    assert run.info.status == "RUNNING"
    assert epochs(checkout, run) == expected(others[:3])


def test_a_store_that_fails_for_a_while_misses_nothing(checkout: Results, watching: Watch) -> None:
    lines = history(checkout)
    write(checkout, "".join(lines[:2]))
    watching.look()
    write(checkout, "".join(lines[:3]))
    with closing(sqlite3.connect(checkout.root / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(StoreError, match="its database is locked"):
            watching.look()
    write(checkout, "".join(lines))
    watching.look()
    (run,) = live(checkout)
    assert epochs(checkout, run) == expected(lines)


def test_a_run_in_training_survives_a_sync_of_older_results(checkout: Results, watching: Watch) -> None:
    write(checkout, "".join(history(checkout)[:2]))
    watching.look()
    checkout.track()
    (run,) = live(checkout)
    assert run.info.status == "RUNNING"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_running_after_the_watch(checkout: Results, sign: signal.Signals) -> None:
    write(checkout, "".join(history(checkout)[:2]))
    watch = subprocess.Popen(
        [sys.executable, "stages/track.py", "watch"],
        cwd=checkout.root,
        env=checkout.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stderr
    assert any("digits/ae seed 0: in training" in line for line in iter(watch.stderr.readline, ""))
    os.kill(watch.pid, sign)
    assert "Traceback" not in watch.stderr.read()
    assert watch.wait() in (130, 143)
    (run,) = live(checkout)
    assert run.info.status == "KILLED"


def test_a_damaged_database_is_one_line(checkout: Results) -> None:
    (checkout.root / "mlflow.db").write_text("this is no database")
    done = checkout.python("stages/track.py", "watch")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "error: MLflow's store cannot be opened: its database is damaged; "
            "`python stages/track.py rebuild` sets it aside and fills a new one"
        ],
    )
