"""One sync: what a store holds is compared with what lies here, and what it lacks is added. Alone imports mlflow.

A run is known by its key, so a second sync adds nothing, and a sync to another store fills it completely. The key is
written last: a run without one was broken off and is replaced.
"""

import hashlib
import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from aebench.paths import CONFIG, HISTORY, WEIGHTS, Layout
from aebench.reporting.figures import contact_sheet
from aebench.reporting.files import arrays as read_arrays
from aebench.tracking.runs import SeedRun, VariantRuns

KEY, CELL, ROLE, SUPERSEDED = "aebench.key", "aebench.cell", "aebench.role", "aebench.superseded"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on its training views
BATCH = 900  # MLflow takes at most 1000 metrics in one request


class StoreError(Exception):
    """The store cannot be reached or does not do as it is asked; one line."""


def mirror(cells: Iterable[VariantRuns], experiment: str, address: str, home: Path, layout: Layout) -> tuple[int, int]:
    """Fill the store at `address`; how many runs were added, and how many were there.

    Args:
        cells: what is to be mirrored.
        experiment: experiments are named `experiment/DATASET`.
        address: the store's.
        home: the checkout beside whose database artifacts lie.
        layout: where the results lie.

    Raises:
        StoreError: the store cannot be reached.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    lock = Layout(home).scratch / "sync.lock"
    lock.parent.mkdir(exist_ok=True)
    try:
        with FileLock(lock):  # processes that create one database at the same time damage it
            client = MlflowClient(address)
            artifacts = home / "mlruns" if address.startswith("sqlite:") else None
            experiments: dict[str, _Experiment] = {}
            for cell in cells:
                if cell.dataset not in experiments:
                    name = f"{experiment}/{cell.dataset}"
                    experiments[cell.dataset] = _Experiment(client, name, artifacts, layout, cell.dataset)
                experiments[cell.dataset].add(cell)
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        raise StoreError(" ".join(str(error).split())[:200]) from error
    return sum(one.added for one in experiments.values()), sum(one.kept for one in experiments.values())


class _Experiment:
    """The experiment of one data set: the runs that it holds, and those that are added."""

    def __init__(self, client: MlflowClient, name: str, artifacts: Path | None, layout: Layout, dataset: str) -> None:
        self.client = client
        self.added = self.kept = 0
        self._id = _experiment_id(client, name, artifacts)
        self._present = list(_all_runs(client, self._id))
        self._tags = _git_tags(layout.root)
        self._main = "DVC_ROOT" not in os.environ or layout.root.samefile(os.environ["DVC_ROOT"])
        digest = hashlib.sha256(layout.data(dataset).read_bytes()).hexdigest()[:32]
        source = json.dumps({"path": str(layout.data(dataset).relative_to(layout.root))})
        self._data = DatasetInput(
            Dataset(dataset, digest, "local", source), [InputTag("mlflow.data.context", "training")]
        )

    def add(self, cell: VariantRuns) -> None:
        """A parent run with mean and spread, and under it a run for each seed, where they are not there yet."""
        name = f"{cell.dataset}/{cell.variant}"
        parent = self._known(name, cell.key)
        if parent is None:
            tags = {ROLE: "variant", CELL: name, NOTE: cell.runs[0].description()}
            with self._new_run(cell.variant, cell.key, cell.runs[0], tags) as parent:
                self._log(parent, cell.settings(), cell.metrics(), ())
                self.client.log_inputs(parent, datasets=[self._data])
        for run in cell.runs:
            child = self._known(f"{name}/seed-{run.seed}", run.key)
            if child is None:
                tags = {ROLE: "seed", CELL: f"{name}/seed-{run.seed}", NOTE: run.description()}
                with self._new_run(f"{cell.variant} seed {run.seed}", run.key, run, tags) as child:
                    self._log(child, run.settings(), {**run.metrics, **run.wall_time()}, run.epochs())
                    self._log_files(child, run)
            self.client.set_tag(child, PARENT, parent)

    def _known(self, cell: str, key: str) -> str | None:
        """The id of the run with this key; others of its cell are marked superseded, or removed if broken off.

        A copy in which DVC runs an experiment supersedes nothing: the main checkout still has its results.
        """
        known = None
        for run in self._present:
            tags = run.data.tags
            if tags.get(CELL) != cell:
                continue
            if KEY not in tags:
                self.client.delete_run(run.info.run_id)
            elif tags[KEY] == key and known is None:
                known = run.info.run_id
                if SUPERSEDED in tags:
                    self.client.delete_tag(known, SUPERSEDED)
            elif SUPERSEDED not in tags and self._main:
                self.client.set_tag(run.info.run_id, SUPERSEDED, "true")
        self.kept += known is not None
        return known

    @contextmanager
    def _new_run(self, name: str, key: str, run: SeedRun, tags: dict[str, str]) -> Iterator[str]:
        """The id of a new run, which is finished and gets its key when the block ends without an error."""
        times = run.times or [round(1000 * time.time())]
        source = {"mlflow.source.name": f"evaluate@{run.dataset}-{run.variant}", "mlflow.source.type": "LOCAL"}
        created = self.client.create_run(
            self._id, start_time=times[0], tags={**tags, **source, **self._tags}, run_name=name
        )
        yield created.info.run_id
        self.client.set_terminated(created.info.run_id, "FINISHED", times[-1])
        self.client.set_tag(created.info.run_id, KEY, key)
        self.added += 1

    def _log(
        self,
        run_id: str,
        settings: Mapping[str, str],
        final: Mapping[str, float],
        epochs: Iterable[tuple[str, float, int, int]],
    ) -> None:
        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, 0) for name, value in final.items()]
        metrics += [Metric(*number) for number in epochs]
        self.client.log_batch(run_id, params=[Param(name, value) for name, value in settings.items()])
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def _log_files(self, run_id: str, run: SeedRun) -> None:
        """Weights, configuration, history, pictures, and the data set's digest."""
        for name in (WEIGHTS, CONFIG, HISTORY):
            self.client.log_artifact(run_id, str(run.folder / name))
        values = run.layout.evaluation(run.dataset, run.variant, run.seed)
        arrays = read_arrays(values, f"evaluate@{run.dataset}-{run.variant}")
        with tempfile.TemporaryDirectory() as folder:
            rows = [arrays[name] for name in ("originals", "reconstructions", "corrupted", "restored")]
            sheets = {"reconstructions": np.stack(rows)}
            for name in ("samples", "interpolations", "traversal", "best", "worst"):
                if name in arrays and len(arrays[name]):
                    sheets[name] = arrays[name]
            for name, images in sheets.items():
                (Path(folder) / f"{name}.png").write_bytes(contact_sheet(images))
            self.client.log_artifacts(run_id, folder, "pictures")
        self.client.log_inputs(run_id, datasets=[self._data])
        self.client.set_tag(run_id, "aebench.dataset_digest", self._data.dataset.digest)


def _experiment_id(client: MlflowClient, name: str, artifacts: Path | None) -> str:
    """The experiment's id; it is made, or made anew where it was deleted or its artifacts lie in an abandoned place."""
    location = (artifacts / name).as_uri() if artifacts else None
    there: Experiment | None = client.get_experiment_by_name(name)
    if there is not None:
        deleted = there.lifecycle_stage == "deleted"
        if not deleted and location in (None, there.artifact_location):
            return str(there.experiment_id)
        # MLflow stores artifact addresses absolute, and keeps the name of a deleted experiment taken.
        if deleted:
            client.restore_experiment(there.experiment_id)
        client.rename_experiment(there.experiment_id, f"{name} until {time.time():.0f}")
        client.delete_experiment(there.experiment_id)
    return str(client.create_experiment(name, location, EXPERIMENT_TAGS))


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _git_tags(root: Path) -> dict[str, str]:
    """The commit, and whether the tree has changes that it lacks; results, which a run is about to change, aside."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        changes = git("status", "--porcelain", "--", ".", ":!reports", ":!dvc.lock").strip()
        return {
            "mlflow.source.git.commit": git("rev-parse", "HEAD").strip(),
            "aebench.uncommitted_changes": str(bool(changes)).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
