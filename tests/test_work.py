"""Stages with heavy work, two at a time on the same cell, and where nobody can read what they say."""

import os
import sys

import pytest
from checkout import Checkout, working_tree
from conftest import RESULTS
from filelock import FileLock, Timeout

CELL = ("digits", "ae")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the digits, where nothing is trained."""
    made = working_tree(tmp_path_factory.mktemp("work"))
    (made.root / "params.yaml").write_text(RESULTS.replace("[ae, cvae]", "[ae]"))
    for stage in (("check",), ("fetch", "digits")):
        done = made.run(sys.executable, f"stages/{stage[0]}.py", *stage[1:])
        assert done.returncode == 0, done.stderr
    return made


def with_seeds(project: Checkout, seeds: str) -> None:
    params = RESULTS.replace("[ae, cvae]", "[ae]").replace("seeds: [0, 1]", f"seeds: {seeds}")
    (project.root / "params.yaml").write_text(params)


def stage(project: Checkout, name: str) -> None:
    done = project.run(sys.executable, f"stages/{name}.py", *CELL)
    assert done.returncode == 0, done.stderr


def results(project: Checkout, folder: str) -> set[str]:
    return {name for name in project.snapshot() if name.startswith(folder)}


@pytest.mark.slow
def test_a_stage_whose_dvc_was_killed_writes_before_the_next_begins_which_leaves_its_own_results(
    project: Checkout,
) -> None:
    """The first is stopped in its writing: nobody reads the pipe that is in a file's place."""
    folder = project.root / ".aebench" / "runtime" / "digits" / "ae"
    folder.mkdir(parents=True)
    with_seeds(project, "[0, 1, 3]")
    with project.start(sys.executable, "stages/train.py", *CELL) as orphan:
        pipes = [folder / f".seed-{seed}.json.{orphan.pid}.partial" for seed in (0, 1)]
        for pipe in pipes:
            os.mkfifo(pipe)
        pipes[0].read_bytes()
        with_seeds(project, "[0, 1, 2]")
        with pytest.raises(Timeout):
            FileLock(project.root / ".aebench" / "store" / "train-digits-ae.lock").acquire(timeout=0)
        with project.start(sys.executable, "stages/train.py", *CELL) as following:
            assert following.stdout
            said = following.stdout.readline()
            assert said == "store: another process works on train-digits-ae; waiting for it to end\n"
            pipes[1].read_bytes()
            assert "taken from the store: ae seed 0, ae seed 1\n" in following.stdout.read()
            assert following.wait() == 0
        assert orphan.wait() == 0
    files = ("model.safetensors", "config.json", "history.csv")
    assert results(project, "runs/") == {f"runs/digits/ae/seed-{seed}/{file}" for seed in (0, 1, 2) for file in files}


@pytest.mark.slow
def test_an_evaluation_leaves_its_own_results_alone(project: Checkout) -> None:
    with_seeds(project, "[0]")
    stage(project, "train")
    folder = project.root / "evaluations" / "digits" / "ae"
    folder.mkdir(parents=True)
    (folder / "seed-1.npz").write_bytes(b"of a seed that was removed")
    stage(project, "evaluate")
    assert [path.name for path in folder.iterdir()] == ["seed-0.npz"]


def test_where_nobody_can_read_what_it_says_a_stage_does_its_work(project: Checkout) -> None:
    """When it trains, and when it takes the run from the store."""
    with_seeds(project, "[7]")
    weights = project.root / "runs" / "digits" / "ae" / "seed-7" / "model.safetensors"
    for _ in range(2):
        weights.unlink(missing_ok=True)
        done = project.run("bash", "-c", f"exec {sys.executable} stages/train.py {' '.join(CELL)} 2>/dev/full")
        assert done.returncode == 0
        assert weights.exists()
