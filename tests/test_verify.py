"""`make verify`: what it compares, and what it says and ends with on small results."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from results import Results

COMMITTED = {
    "seeds": {"0": {"elbo_nats": -30.0, "probe_accuracy": 0.8}},
    "failed": {"1": "train_loss is nan"},
    "weights_sha256": {"0": "abc", "1": "bad"},
    "summary": {"elbo_nats": {"mean": -30.0, "sd": 0.1}, "probe_accuracy": {"mean": 0.8}},
}


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(ROOT / "stages"))
    return importlib.import_module("verify")


@pytest.mark.parametrize(
    ("weights", "metrics", "said"),
    [
        ("abc", {"elbo_nats": -30.0, "probe_accuracy": 0.8}, "identical"),
        ("abd", {"elbo_nats": -30.0, "probe_accuracy": 0.8}, "within tolerance: its weights alone differ"),
        ("abd", {"elbo_nats": -30.39, "probe_accuracy": 0.801}, "within tolerance: elbo_nats by -0.39"),
        ("abd", {"elbo_nats": -30.41, "probe_accuracy": 0.8}, "different: elbo_nats by -0.41"),
        ("abd", {"elbo_nats": -30.0, "probe_accuracy": 0.791}, "different: probe_accuracy by -0.009"),
        ("abc", {"elbo_nats": -30.0}, "different: only one of the two has probe_accuracy"),
        ("bad", "loss is inf", "different: it failed (loss is inf), the committed one did not fail"),
    ],
)
def test_what_differs_and_by_how_much(verify: Any, weights: str, metrics: dict[str, float] | str, said: str) -> None:
    assert str(verify.compare(COMMITTED, 0, weights, metrics)) == said


@pytest.mark.parametrize(
    ("weights", "found", "said"),
    [
        ("bad", "train_loss is nan", "identical: train_loss is nan"),
        ("worse", "train_loss is inf", "within tolerance: train_loss is inf"),
        ("abc", {"elbo_nats": 1.0}, "different: it did not fail, the committed one failed (train_loss is nan)"),
    ],
)
def test_a_run_that_failed_fails_again(verify: Any, weights: str, found: dict[str, float] | str, said: str) -> None:
    assert str(verify.compare(COMMITTED, 1, weights, found)) == said


def test_the_likely_cause_is_named(verify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "numerics: native" in verify.likely_cause("native")
    monkeypatch.setattr(verify, "version", lambda package: "1.0")
    assert verify.likely_cause("portable").startswith("another version of torch: 1.0 here")


METRICS = "reports/metrics/digits/ae.json"


@pytest.fixture
def project(results: Results, tmp_path: Path) -> Results:
    """Two variants' results, committed."""
    copy = results.copy(tmp_path / "checkout")
    for name in ("scripts/verify.py", "constraints.txt", ".gitignore"):
        (copy.root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, copy.root / name)
    copy.git("init", "--quiet", "--initial-branch=main")
    copy.commit("results")
    return copy


def run(project: Results) -> "subprocess.CompletedProcess[str]":
    return project.run(sys.executable, "scripts/verify.py")


def spoil(project: Results) -> None:
    """Another number in a metric file."""
    path = project.root / METRICS
    content = json.loads(path.read_bytes())
    content["seeds"]["0"]["reconstruction_mse"] += 1
    path.write_text(json.dumps(content))


@pytest.mark.slow
def test_committed_results_come_out_again_whatever_lies_here_and_wherever_work_is_done(project: Results) -> None:
    spoil(project)
    project.edit("params.yaml", "{workers: auto,", "{engine: dask, address: 'tcp://127.0.0.1:9', workers: auto,")
    done = run(project)
    assert done.stdout.splitlines() == ["digits ae seed 0: identical", "digits cvae seed 0: identical"]
    assert done.returncode == 0
    assert "no commit" not in done.stderr


@pytest.mark.slow
def test_committed_results_that_do_not_come_out_again(project: Results) -> None:
    spoil(project)
    project.commit("another number")
    done = run(project)
    assert done.stdout.splitlines()[:2] == [
        "digits ae seed 0: different: reconstruction_mse by -1",
        "digits cvae seed 0: identical",
    ]
    assert done.stdout.splitlines()[2].startswith("likely cause: ")
    assert done.returncode == 1


@pytest.mark.slow
def test_without_git_results_are_compared_as_they_lie(project: Results) -> None:
    shutil.rmtree(project.root / ".git")
    spoil(project)
    done = run(project)
    path = project.root / METRICS
    assert f"no commit has {path}: compared with the file as it lies here" in done.stderr.splitlines()
    assert done.stdout.startswith("digits ae seed 0: different: reconstruction_mse by -1\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("params.yaml", "seeds: [0, 1]", "seeds: [7]", f"{METRICS}, as committed, has no seed 7; run `make repro`"),
        (
            "params.yaml",
            "[ae, cvae]",
            "[cvae, other]",
            "reports/metrics/digits/other.json is missing; run `make repro`",
        ),
        (
            "params.yaml",
            "device: cpu",
            "device: cuda",
            "device: found cuda, allowed: cpu; results are promised bit for",
        ),
        (METRICS, '"seeds"', '"seed"', f"{METRICS}, as committed, is damaged; run `make repro`"),
    ],
)
def test_what_cannot_be_compared_is_one_line(project: Results, name: str, old: str, new: str, said: str) -> None:
    project.edit("params.yaml", "models:\n", "models:\n  other: {kind: ae}\n")
    path = project.root / name
    path.write_text(path.read_text().replace(old, new))
    project.commit("a change")
    done = run(project)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
