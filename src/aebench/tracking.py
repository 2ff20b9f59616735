"""Results to MLflow: a mirror of the files, written after the fact. The only module that imports mlflow.

A run is known by its key, the hash of its results and of what produced them, so that a second sync adds nothing and a
sync to another store fills it completely. The key is written last: a run without one was broken off and is replaced.
"""

import csv
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aebench.config import Params
from aebench.errors import DataError
from aebench.paths import CONFIG, HISTORY, WEIGHTS, Layout

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

KEY, CELL, SUPERSEDED = "aebench.key", "aebench.cell", "aebench.superseded"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on its training views
BATCH = 900  # MLflow takes at most 1000 metrics in one request


@dataclass(frozen=True)
class SeedRun:
    """One trained and evaluated run, as files."""

    dataset: str
    variant: str
    seed: int
    layout: Layout
    metrics: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Weights, configuration and history."""
        return self.layout.run(self.dataset, self.variant, self.seed)

    @cached_property
    def key(self) -> str:
        """The hash of the results and of what produced them."""
        content = json.dumps([self.metrics[name] for name in ("protocol", "weights_sha256")], sort_keys=True)
        own = json.dumps([self.seed, self.metrics["seeds"][str(self.seed)]], sort_keys=True)
        files = [(self.folder / name).read_bytes() for name in (CONFIG, HISTORY)]
        return _hash(content.encode(), own.encode(), *files)

    @cached_property
    def times(self) -> list[int] | None:
        """When training began and each epoch ended, in milliseconds; none where the result came from a cache."""
        try:
            runtime = json.loads(self.layout.runtime(self.dataset, self.variant, self.seed).read_bytes())
            return [round(1000 * at) for at in (runtime["started_at"], *runtime["epochs_finished_at"])]
        except (OSError, ValueError, KeyError):
            return None


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def found(params: Params, layout: Layout) -> dict[tuple[str, str], list[SeedRun]]:
    """The runs of every cell that `params` names.

    Raises:
        DataError: a file is missing; the message says what to do.
    """
    cells = {}
    try:
        for dataset in params.datasets:
            for variant in params.variants:
                metrics = json.loads(layout.metrics(dataset, variant).read_bytes())
                cells[dataset, variant] = [
                    SeedRun(dataset, variant, int(seed), layout, metrics) for seed in metrics["seeds"]
                ]
                for run in cells[dataset, variant]:
                    run.key  # noqa: B018  reads the run's files, so that a missing one is noticed here
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run `dvc repro` first") from None
    return cells


def store_address(layout: Layout) -> str:
    """`MLFLOW_TRACKING_URI`, or the database of the project's main checkout, also for a copy that DVC works in."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_home(layout) / 'mlflow.db'}"


def _home(layout: Layout) -> Path:
    return Path(os.environ.get("DVC_ROOT", layout.root)).resolve()


class SyncState:
    """A note of what a store is known to hold, so that a sync with nothing to do need not ask it."""

    def __init__(self, layout: Layout, address: str) -> None:
        self.address = address
        self.database = Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:///") else None
        self.path = layout.sync_state / f"{_hash(address.encode(), str(_home(layout)).encode())[:16]}.json"
        inputs = [layout.params, *sorted((layout.reports / "metrics").rglob("*.json"))]
        inputs += sorted(layout.root.glob(f"runs/*/*/*/{HISTORY}"))
        self._fingerprint = _hash(*(path.read_bytes() for path in inputs))

    def _note(self) -> dict[str, Any]:
        # A database that was deleted and made anew is another file.
        store = self.database.stat().st_ino if self.database else self.address
        return {"fingerprint": self._fingerprint, "store": store}

    def complete(self) -> bool:
        """Whether the store holds what lies here, as of the last sync from here."""
        try:
            known: dict[str, Any] = json.loads(self.path.read_bytes())
            return bool(known == self._note())
        except (OSError, ValueError):
            return False

    def remember(self) -> None:
        """The store holds all that lies here."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._note()))


def sync(params: Params, layout: Layout, say: Callable[[str], None]) -> bool:
    """Mirror the results into MLflow; whether the store now holds them all.

    A store that cannot be reached is a warning, not an error: the next sync tries again.

    Args:
        params: names the cells and the experiment.
        layout: where the results lie.
        say: gets a line about what was done.
    """
    cells = found(params, layout)
    state = SyncState(layout, store_address(layout))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow
    from filelock import FileLock
    from mlflow.exceptions import MlflowException

    layout.scratch.mkdir(exist_ok=True)
    shown = re.sub(r"//[^/@]*@", "//", state.address)  # without a password
    try:
        # Processes that create one database at the same time damage it.
        with FileLock(layout.scratch / "sync.lock"):
            mirror = _Mirror(mlflow.MlflowClient(state.address), params, layout, state.database is not None)
            for (dataset, variant), runs in cells.items():
                mirror.variant(dataset, variant, runs)
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())
        say(f"warning: MLflow at {shown} was not synced, the next sync tries again: {reason[:200]}")
        return False
    state.remember()
    say(f"MLflow at {shown}: {mirror.added} runs added, {mirror.kept} already there")
    return True


class _Mirror:
    """One sync: what the store holds, and what is added."""

    def __init__(self, client: "MlflowClient", params: Params, layout: Layout, local: bool) -> None:
        self.client, self.params, self.layout, self.local = client, params, layout, local
        self.added = self.kept = 0
        self._commit = _git_tags(layout.root)
        self._experiments: dict[str, tuple[str, list[Run]]] = {}
        self._digests: dict[str, str] = {}

    def variant(self, dataset: str, variant: str, runs: list[SeedRun]) -> None:
        """A parent run with mean and spread, and under it a run for each seed."""
        metrics = runs[0].metrics
        key = _hash(*(run.key.encode() for run in runs), json.dumps(metrics["summary"], sort_keys=True).encode())
        summary = {}
        for name, values in metrics["summary"].items():
            summary[name] = values["mean"]
            summary |= {f"{name}_sd": values["sd"]} if "sd" in values else {}
            for kind in ("ci95", "ci95_images"):
                if kind in values:
                    summary[f"{name}_{kind}_low"], summary[f"{name}_{kind}_high"] = values[kind]
        with self._run(dataset, f"{dataset}/{variant}", key, variant, runs[0], {"aebench.role": "variant"}) as parent:
            if parent.new:
                self._log(parent.id, self._settings(runs[0], seed=False), summary, [])
        for run in runs:
            cell, name = f"{dataset}/{variant}/seed-{run.seed}", f"{variant} seed {run.seed}"
            with self._run(dataset, cell, run.key, name, run, {"aebench.role": "seed"}) as child:
                if child.new:
                    final = run.metrics["seeds"][str(run.seed)]
                    self._log(child.id, self._settings(run), final, list(self._epochs(run)))
                    self._artifacts(child.id, run)
            if child.parent != parent.id:
                self.client.set_tag(child.id, "mlflow.parentRunId", parent.id)

    def _experiment(self, dataset: str) -> tuple[str, "list[Run]"]:
        """The id of the data set's experiment, and the runs that it holds."""
        if dataset not in self._experiments:
            name = f"{self.params.tracking.experiment}/{dataset}"
            location = (_home(self.layout) / "mlruns" / name).as_uri() if self.local else None
            experiment = self.client.get_experiment_by_name(name)
            if experiment is not None and self._is_gone(experiment, location):
                self._set_aside(experiment)
                experiment = None
            identity = (
                experiment.experiment_id
                if experiment
                else self.client.create_experiment(name, location, EXPERIMENT_TAGS)
            )
            self._experiments[dataset] = identity, list(self._all_runs(identity))
        return self._experiments[dataset]

    def _is_gone(self, experiment: "Experiment", location: str | None) -> bool:
        """Deleted by hand, or its artifacts lie where the repository was before it moved."""
        moved = location is not None and location != str(experiment.artifact_location)
        return moved or str(experiment.lifecycle_stage) == "deleted"

    def _set_aside(self, experiment: "Experiment") -> None:
        # MLflow stores artifact addresses absolute and keeps the name of a deleted experiment taken.
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        self.client.rename_experiment(experiment.experiment_id, f"{experiment.name} until {time.time():.0f}")
        self.client.delete_experiment(experiment.experiment_id)

    def _all_runs(self, experiment: str) -> "Iterator[Run]":
        token = None
        while True:
            page = self.client.search_runs([experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _run(self, dataset: str, cell: str, key: str, name: str, run: SeedRun, tags: dict[str, str]) -> "_OneRun":
        experiment, present = self._experiment(dataset)
        same_cell = [other for other in present if other.data.tags.get(CELL) == cell]
        known = next((other for other in same_cell if other.data.tags.get(KEY) == key), None)
        for other in same_cell:
            if KEY not in other.data.tags:  # broken off
                self.client.delete_run(other.info.run_id)
            elif other is not known and SUPERSEDED not in other.data.tags:
                self.client.set_tag(other.info.run_id, SUPERSEDED, "true")
        if known is not None:
            if SUPERSEDED in known.data.tags:
                self.client.delete_tag(known.info.run_id, SUPERSEDED)
            self.kept += 1
            return _OneRun(self.client, known.info.run_id, key, False, 0, known.data.tags.get("mlflow.parentRunId"))
        self.added += 1
        now = round(1000 * time.time())
        times = run.times or [now]
        tags = {
            **tags,
            **self._commit,
            CELL: cell,
            "mlflow.source.name": f"dvc repro evaluate@{run.dataset}-{run.variant}",
            "mlflow.source.type": "LOCAL",
        }
        created = self.client.create_run(experiment, start_time=times[0], tags=tags, run_name=name)
        return _OneRun(self.client, created.info.run_id, key, True, times[-1], None)

    def _settings(self, run: SeedRun, seed: bool = True) -> dict[str, str]:
        """Every setting under its key in params.yaml, so that shared ones stand under the same name."""
        description = json.loads((run.folder / CONFIG).read_bytes())
        for key in ("images", "selected_epoch", *(() if seed else ("seed",))):
            description.pop(key)
        description |= {
            "evaluation": self.params.evaluation.model_dump(mode="json"),
            "weights": run.metrics["parameters"],
        }
        return dict(_flat(description))

    def _epochs(self, run: SeedRun) -> Iterator[tuple[str, float, int, int]]:
        with (run.folder / HISTORY).open(newline="") as lines:
            for step, row in enumerate(csv.DictReader(lines), start=1):
                at = run.times[step] if run.times else round(1000 * time.time())
                for name, value in row.items():
                    if name != "epoch":
                        yield name, float(value), at, step

    def _log(
        self,
        run_id: str,
        settings: dict[str, str],
        final: Mapping[str, float],
        epochs: list[tuple[str, float, int, int]],
    ) -> None:
        from mlflow.entities import Metric, Param

        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, 0) for name, value in final.items()]
        metrics += [Metric(name, value, at, step) for name, value, at, step in epochs]
        self.client.log_batch(run_id, params=[Param(name, value) for name, value in settings.items()])
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def _artifacts(self, run_id: str, run: SeedRun) -> None:
        import numpy as np
        from mlflow.entities import Dataset, DatasetInput, InputTag

        from aebench.reporting.figures import contact_sheet

        for name in (WEIGHTS, CONFIG, HISTORY):
            self.client.log_artifact(run_id, str(run.folder / name))
        with (
            tempfile.TemporaryDirectory() as folder,
            np.load(self.layout.evaluation(run.dataset, run.variant, run.seed), allow_pickle=False) as arrays,
        ):
            rows = [arrays[name] for name in ("originals", "reconstructions", "corrupted", "restored")]
            sheets = {"reconstructions": np.stack(rows)}
            if "samples" in arrays:
                sheets["samples"] = arrays["samples"]
            for name, images in sheets.items():
                (Path(folder) / f"{name}.png").write_bytes(contact_sheet(images))
            self.client.log_artifacts(run_id, folder, "pictures")
        if run.dataset not in self._digests:
            data = self.layout.data(run.dataset)
            self._digests[run.dataset] = hashlib.sha256(data.read_bytes()).hexdigest()[:32]
        digest = self._digests[run.dataset]
        dataset = Dataset(run.dataset, digest, "local", json.dumps({"path": f"data/{run.dataset}.safetensors"}))
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        self.client.set_tag(run_id, "aebench.dataset_digest", digest)


@dataclass
class _OneRun:
    """A run of the store; a new one is finished, and gets its key, when the block ends without an error."""

    client: "MlflowClient"
    id: str
    key: str
    new: bool
    end: int
    parent: str | None

    def __enter__(self) -> "_OneRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.new:
            return
        if kind is None:
            self.client.set_terminated(self.id, "FINISHED", self.end)
            self.client.set_tag(self.id, KEY, self.key)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _git_tags(root: Path) -> dict[str, str]:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return {
            "mlflow.source.git.commit": git("rev-parse", "HEAD").strip(),
            "aebench.uncommitted_changes": str(bool(git("status", "--porcelain").strip())).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
