"""The committed results belong to the committed code and parameters."""

import json
import subprocess
import sys
from pathlib import Path

from checkout import Checkout
from conftest import ROOT


def out_of_date(root: Path) -> list[str]:
    """What DVC finds changed since the results were made, of the files that git holds."""
    checkout = Checkout(root)
    done = checkout.run(sys.executable, "-m", "dvc", "status", "--json")
    assert done.returncode == 0, done.stderr
    changed = []
    for stage, entries in json.loads(done.stdout).items():
        for entry in entries:
            if isinstance(entry, str):
                changed += [] if entry == "always changed" else [f"{stage}: {entry}"]
                continue
            for files in entry.values():
                changed += [f"{stage}: {name}" for name in files if checkout.git("ls-files", "--", name)]
    return changed


def test_results_are_of_this_code_and_these_parameters() -> None:
    assert not out_of_date(ROOT), "run `make repro` and commit what changes"


def test_a_change_would_be_noticed(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    clone = Checkout(tmp_path / "clone")
    clone.edit("src/aebench/training/adam.py", "eps=1e-8", "eps=1e-7")
    clone.edit("params.yaml", "latent_dim: 16", "latent_dim: 17")
    clone.edit("reports/metrics/fashion_mnist/vae.json", '"mean": ', '"mean": 1')
    changed = out_of_date(clone.root)
    assert "train@fashion_mnist-vae: src/aebench/training" in changed
    assert "train@fashion_mnist-vae: params.yaml" in changed
    assert "evaluate@fashion_mnist-vae: reports/metrics/fashion_mnist/vae.json" in changed
