"""Small results, made by the stages without DVC, in a checkout of their own: what `track` has to mirror."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkout import Checkout
from conftest import ROOT
from mlflow import MlflowClient
from mlflow.entities import Run

PARAMS = """\
datasets: [digits]
variants: [ae, cvae]
seeds: [0, 1]
numerics: native
device: cpu
data: {validation_fraction: 0.1}
network: {hidden: [16], latent_dim: 3}
training: {epochs: 3, batch_size: 64, learning_rate: 2.0e-3, select: best_validation}
models:
  ae: {kind: ae}
  cvae: {kind: cvae, conditioning: class_prior, likelihood: bernoulli, beta: 1.0, beta_warmup_epochs: 0}
evaluation:
  importance_samples: 20
  proposal: amortised
  expost: {images: 0, importance_samples: 20}
  corruption: masking
  corruption_rate: 0.3
execution: {workers: auto, source_dir: null}
tracking: {experiment: aebench}
"""
CELLS = ["digits/ae", "digits/ae/seed-0", "digits/ae/seed-1", "digits/cvae", "digits/cvae/seed-0", "digits/cvae/seed-1"]


@dataclass
class Results(Checkout):
    """A checkout with results, and its MLflow store."""

    @property
    def store(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(**{"MLFLOW_DISABLE_TELEMETRY": "true", **changes})

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments."""
        return self.run(sys.executable, *arguments, **environment)

    def track(self, *arguments: str, **environment: str) -> str:
        """Sync; what was said."""
        done = self.python("stages/track.py", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def runs(self, store: str | None = None) -> dict[str, list[Run]]:
        """The store's runs, by cell."""
        client = MlflowClient(store or self.store)
        found: dict[str, list[Run]] = {}
        for run in client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]):
            found.setdefault(run.data.tags.get("aebench.cell", ""), []).append(run)
        return found

    def copy(self, root: Path) -> "Results":
        """The same results elsewhere, times of files included, without a store."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns", "sync"))
        return Results(root)


def make(root: Path) -> Results:
    """Train and evaluate what `PARAMS` names."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "params.yaml").write_text(PARAMS)
    made = Results(root)
    cells = (("digits", "ae"), ("digits", "cvae"))
    commands: list[tuple[str, ...]] = [("check",), ("fetch", "digits")]
    commands += [(stage, *cell) for cell in cells for stage in ("train", "evaluate")]
    for stage, *arguments in commands:
        done = made.python(f"stages/{stage}.py", *arguments)
        assert done.returncode == 0, done.stderr
    return made


def tags(run: Run) -> Mapping[str, Any]:
    found: Mapping[str, Any] = run.data.tags
    return found
