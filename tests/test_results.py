"""The committed results belong to the committed code and parameters."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from checkout import Checkout, working_tree
from conftest import ROOT


def out_of_date(checkout: Checkout) -> list[str]:
    """What DVC finds changed since the results were made: of the files that git holds, and of the code's fingerprints.

    The check writes there what these are now, and removes what params.yaml does not name.
    """
    checked = checkout.run(sys.executable, "stages/check.py")
    assert checked.returncode == 0, checked.stderr
    done = checkout.run(sys.executable, "-m", "dvc", "status", "--json")
    assert done.returncode == 0, done.stderr
    changed = []
    for stage, entries in json.loads(done.stdout).items():
        for entry in entries:
            if isinstance(entry, str):
                changed += [] if entry == "always changed" else [f"{stage}: {entry}"]
                continue
            for files in entry.values():
                held = (name for name in files if name.startswith(".aebench/") or checkout.git("ls-files", "--", name))
                changed += [f"{stage}: {name}" for name in held]
    return changed


def test_results_are_of_this_code_and_these_parameters(tmp_path: Path) -> None:
    """In a copy of the working tree with the results that git holds, as they lie here: the check writes and removes."""
    copy = working_tree(tmp_path / "copy")
    held = subprocess.run(["git", "ls-files", "-z", "dvc.lock", "reports"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, held.stdout.decode().split("\0")):
        (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy.root / name)
    copy.commit("all")
    assert not out_of_date(copy), "run `make repro` and commit what changes"


def test_a_change_would_be_noticed(made: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(made.root, copy.root)
    assert copy.run("dvc", "commit", "--force", "track").returncode == 0  # which has not run there
    copy.commit("results")
    assert out_of_date(copy) == []
    copy.edit("src/aebench/training/optimizers/adam.py", "fused=True,\n", "fused=True,  # in one\n\n")
    copy.edit("stages/train.py", '"""Train every seed of one cell."""', '"""Train all seeds of one cell."""')
    assert out_of_date(copy) == []
    copy.edit("src/aebench/training/optimizers/adam.py", "beta1=0.9", "beta1=0.8")
    copy.edit("params.yaml", "latent_dim: 4", "latent_dim: 5")
    copy.edit("reports/metrics/digits/ae.json", '"mean": ', '"mean": 1')
    changed = out_of_date(copy)
    for found in (
        *("train@digits-ae: .aebench/code/train/ae", "train@digits-ae: params.yaml", "report: .aebench/code"),
        *("evaluate@digits-ae: .aebench/code/evaluate/ae", "evaluate@digits-ae: reports/metrics/digits/ae.json"),
    ):
        assert found in changed
    assert not [found for found in changed if found.startswith("fetch")]
