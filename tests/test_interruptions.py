"""Whatever ends the pipeline, the next run goes on where it stopped and ends with the same bytes."""

import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from checkout import Checkout, working_tree
from conftest import ROOT
from dvc.lock import make_lock
from test_pipeline import PARAMS

SMALL = {
    "variants: [ae, vae, cvae, cvae_concat]": "variants: [vae, cvae_concat]",
    "training: {epochs: 2, batch_size: 64": "training: {epochs: 8, batch_size: 8",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with results, in whose training the seconds count."""
    project = working_tree(tmp_path_factory.mktemp("undisturbed"))
    params = PARAMS
    for old, new in SMALL.items():
        assert old in params
        params = params.replace(old, new)
    (project.root / "params.yaml").write_text(params)
    project.commit("code")
    project.repro()
    return project


def fresh(undisturbed: Checkout, root: Path) -> Checkout:
    """The same checkout without its results."""
    undisturbed.git("clone", "--quiet", str(undisturbed.root), str(root))
    return Checkout(root)


def results(project: Checkout) -> dict[str, bytes]:
    return project.snapshot() | {"dvc.lock": (project.root / "dvc.lock").read_bytes()}


def unlock(project: Checkout) -> None:
    """As `make repro` does: DVC killed while it writes its own note of locks cannot read it."""
    assert project.run("python", "scripts/unlock.py").returncode == 0


@pytest.mark.parametrize(("note", "left"), [(b"", False), (b'{"a": ', False), (b'{"a": {}}', True), (None, False)])
def test_a_note_of_locks_that_dvc_cannot_read_is_removed(tmp_path: Path, note: bytes | None, left: bool) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "unlock.py", tmp_path / "scripts")
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    if note is not None:
        path.write_bytes(note)
    unlock(Checkout(tmp_path))
    assert path.exists() == left


def test_a_note_of_locks_that_dvc_is_writing_is_left_alone(tmp_path: Path) -> None:
    """DVC empties it and writes it again, under a lock."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "unlock.py", tmp_path / "scripts")
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.touch()
    with make_lock(f"{path}.lock"):
        unlock(Checkout(tmp_path))
        assert path.exists()
    unlock(Checkout(tmp_path))
    assert not path.exists()


@pytest.mark.slow
def test_killed_at_any_moment_the_pipeline_ends_with_the_same_results(undisturbed: Checkout, tmp_path: Path) -> None:
    moments, expected = random.Random(0), results(undisturbed)
    kills, clones = 0, 0
    while kills < 20:  # a clone at a time, until its pipeline has come to its end
        clones += 1
        project = fresh(undisturbed, tmp_path / f"killed{clones}")
        runs_kept: list[int] = []
        ended = False
        while not ended:
            unlock(project)
            with project.start("dvc", "repro") as running:
                try:
                    output = running.communicate(timeout=moments.uniform(2, 14) if kills < 20 else None)[0]
                    assert running.returncode == 0, output
                    ended = True
                except subprocess.TimeoutExpired:
                    # Every other time DVC alone dies, and its stage works on without it.
                    (os.killpg if kills % 2 else os.kill)(running.pid, signal.SIGKILL)
                    running.communicate()  # ends when the stage has
                    kills += running.returncode == -signal.SIGKILL  # and had not just ended by itself
            runs_kept.append(len(list((project.root / ".aebench" / "store").glob("*.run"))))
        assert runs_kept == sorted(runs_kept)  # nothing that was done is lost
        assert results(project) == expected
        assert not list((project.root / ".aebench" / "store").glob("*.checkpoint"))
        assert not list((project.root / ".aebench" / "store").glob("*.damaged"))
