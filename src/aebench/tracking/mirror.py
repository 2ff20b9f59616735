"""One sync: what a store holds is compared with what lies here, and what it lacks is added. Alone imports mlflow.

A run is known by its key, so a second sync adds nothing, and a sync to another store fills it completely. The key is
written last: a run without one was broken off and is replaced.
"""

import hashlib
import json
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from alembic.util import CommandError
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run
from mlflow.exceptions import MlflowException
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from aebench.errors import FileError
from aebench.interrupts import handled
from aebench.paths import CONFIG, HISTORY, WEIGHTS, Layout
from aebench.reporting.figures import contact_sheet
from aebench.reporting.files import arrays as read_arrays
from aebench.reporting.files import found
from aebench.tracking import facts, views
from aebench.tracking.models import register
from aebench.tracking.patience import NoAnswer, Patient, interruptible_by_requests
from aebench.tracking.runs import KEY, SeedRun, VariantRuns
from aebench.tracking.sync import parts

CELL, ROLE, SUPERSEDED, FAILED = "aebench.cell", "aebench.role", "aebench.superseded", "aebench.failed"
DIGEST, TRAINED_HERE, LIVE = "aebench.dataset_digest", "aebench.trained_here", "aebench.live"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on its training views
WAIT = 15  # seconds for another sync to end
# What SQLite, SQLAlchemy and alembic say of a file that is no database of MLflow's, or is one no more.
DAMAGE = (
    *("file is not a database", "disk image is malformed", "no such table", "no such column", "locate revision"),
    *("already exists", "duplicate column"),
)
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
        DataError: a data set or an evaluation is missing or damaged.
        FileError: the checkout may not be written to.
        StoreError: the store cannot be reached, or does not do as it is asked.
    """
    with alone(home):
        client, artifacts = connect(address), home / "mlruns" if address.startswith("sqlite:") else None
        experiments: dict[str, _Experiment] = {}
        for cell in cells:
            if cell.dataset not in experiments:
                experiments[cell.dataset] = _Experiment(client, experiment, artifacts, layout, cell.dataset)
            experiments[cell.dataset].add(cell)
        for one in experiments.values():
            one.supersede()
            one.offer_views()
    return sum(one.added for one in experiments.values()), sum(one.kept for one in experiments.values())


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Inside the block no other process is at the store; whatever this one does wrong there is a `StoreError`.

    Processes that create one database at the same time damage it.

    Args:
        home: the checkout whose store it is.

    Raises:
        FileError: the checkout may not be written to.
        StoreError: the store does something wrong, or another process is at it for too long.
    """
    folder = Layout(home).scratch
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be written: {error.strerror}") from None
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it prints what it raises, too, over many lines
    try:
        with FileLock(folder / "sync.lock", WAIT), interruptible_by_requests():
            yield
    except Timeout:
        raise StoreError(f"another sync has been at work for {WAIT} seconds") from None
    except (NoAnswer, MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        raise StoreError(_in_a_line(error)) from error


def connect(address: str) -> Patient:
    """A client of the store that is not waited for long, unless it is a database, whose transactions end."""
    if not address.startswith("sqlite:"):
        return Patient(MlflowClient(address))
    _make(make_url(address))
    return Patient(MlflowClient(address), None)


def _make(address: URL) -> None:
    """A database with MLflow's tables, where none is: MLflow does not complete one that it has begun to make."""
    if address.database in (None, "", ":memory:") or (database := Path(address.database)).exists():
        return
    new = database.with_name(f"{database.name}.new")
    for part in parts(new):
        part.unlink(missing_ok=True)  # what an interrupt left
    with handled(signal.SIG_DFL, signal.SIGINT, signal.SIGTERM):
        MlflowClient(address.set(database=str(new)).render_as_string(hide_password=False))
        new.rename(database)


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "database is locked" in text:
        return "its database is locked by another program"
    if "disk I/O error" in text or "disk is full" in text:
        return "its disk is full, or fails"
    if any(sign in text for sign in DAMAGE):
        return "its database is damaged; `python stages/track.py rebuild` sets it aside and fills a new one"
    return text[:200]


class _Experiment:
    """The experiment of one data set: the runs that it holds, and those that are added."""

    def __init__(self, client: Patient, experiment: str, artifacts: Path | None, layout: Layout, dataset: str) -> None:
        self.client = client
        self.added = self.kept = 0
        self._name = experiment
        content = found(layout.data(dataset), f"fetch@{dataset}").read_bytes()
        self._id = experiment_id(client, f"{experiment}/{dataset}", artifacts)
        self._present = list(_all_runs(client, self._id))
        self._current: set[str] = set()
        self._metrics: list[set[str]] = []
        self._tags = facts.of_checkout(layout.root)
        self._main = "DVC_ROOT" not in os.environ or layout.root.samefile(os.environ["DVC_ROOT"])
        digest = hashlib.sha256(content).hexdigest()[:32]
        source = json.dumps({"path": str(layout.data(dataset).relative_to(layout.root))})
        self._data = DatasetInput(
            Dataset(dataset, digest, "local", source), [InputTag("mlflow.data.context", "training")]
        )

    def add(self, cell: VariantRuns) -> None:
        """A parent run with mean and spread, under it a run for each seed, and the best of them as a model.

        What is there already stays as it is.
        """
        name = f"{cell.dataset}/{cell.variant}"
        self._metrics.append(set(cell.metrics()))
        parent = self._known(name, cell.key)
        if parent is None:
            with self._new_run(cell.variant, cell.key, cell.runs[0], {ROLE: "variant", CELL: name}) as parent:
                self._log(parent, cell.settings(), cell.metrics(), ())
        ids = {}
        for run in cell.runs:
            child = self._known(f"{name}/seed-{run.seed}", run.key)
            if child is None:
                tags = {ROLE: "seed", CELL: f"{name}/seed-{run.seed}", TRAINED_HERE: str(run.trained_here).lower()}
                tags |= (facts.of_system() if run.trained_here else {}) | ({FAILED: run.failed} if run.failed else {})
                with self._new_run(f"{cell.variant} seed {run.seed}", run.key, run, tags) as child:
                    self._log(child, run.settings(), {**run.metrics, **run.wall_times()}, run.epochs())
                    self._log_files(child, run)
            self.client.set_tag(child, PARENT, parent)
            self._replace_live(f"{name}/seed-{run.seed}", run.layout.live(run.dataset, run.variant, run.seed))
            ids[run.seed] = child
        if cell.best:
            model = f"{self._name}-{cell.dataset}-{cell.variant}"
            register(self.client, self._id, ids[cell.best.seed], cell.best, model, current=self._main)

    def _replace_live(self, cell: str, history: Path) -> None:
        """Remove what was shown of this run while it was in training, unless it is so again."""
        for run in self._present:
            if run.data.tags.get(LIVE) == cell and not history.exists():
                self.client.delete_run(run.info.run_id)

    def offer_views(self) -> None:
        """Keep the UI's views of the experiment as they are made here; a chart wants axes that all runs have."""
        shown = self.client.get_experiment(self._id).tags
        for tag, view in views.tags(set.intersection(*self._metrics)).items():
            if shown.get(tag) != view:
                self.client.set_experiment_tag(self._id, tag, view)

    def supersede(self) -> None:
        """Mark the runs of other results than those that lie here; their mark goes when their results come back.

        A copy in which DVC runs an experiment supersedes nothing: the main checkout still has its results.
        """
        for run in self._present if self._main else []:
            mark = str(run.info.run_id not in self._current).lower()
            if KEY in run.data.tags and run.data.tags.get(SUPERSEDED) != mark:
                self.client.set_tag(run.info.run_id, SUPERSEDED, mark)

    def _known(self, cell: str, key: str) -> str | None:
        """The id of the run with this key; runs of its cell that were broken off are removed."""
        known = None
        for run in self._present:
            tags = run.data.tags
            if tags.get(CELL) != cell:
                continue
            if KEY not in tags:
                self.client.delete_run(run.info.run_id)
            elif tags[KEY] == key and known is None:
                known = run.info.run_id
                self._current.add(known)
        self.kept += known is not None
        return known

    @contextmanager
    def _new_run(self, name: str, key: str, run: SeedRun, tags: dict[str, str]) -> Iterator[str]:
        """The id of a new run, which ends and gets its key when the block ends without an error."""
        times = run.times or [round(1000 * time.time())]
        tags |= {NOTE: run.description(), DIGEST: self._data.dataset.digest, SUPERSEDED: "false"}
        tags |= {**facts.of_stages(run.dataset, run.variant), **self._tags}
        try:
            created = self.client.create_run(self._id, start_time=times[0], tags=tags, run_name=name)
            self.client.log_inputs(created.info.run_id, datasets=[self._data])
            yield created.info.run_id
            self.client.set_terminated(created.info.run_id, "FAILED" if FAILED in tags else "FINISHED", times[-1])
        except BaseException:  # an interrupt too
            kill(self.client, self._id, CELL, tags[CELL])
            raise
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
        """Weights, configuration, history and, unless it has failed, pictures."""
        for name in (WEIGHTS, CONFIG, HISTORY):
            self.client.log_artifact(run_id, str(run.folder / name))
        if run.failed:
            return
        values = run.layout.evaluation(run.dataset, run.variant, run.seed)
        arrays = read_arrays(values, f"evaluate@{run.dataset}-{run.variant}")
        with tempfile.TemporaryDirectory() as folder:
            rows = [arrays[name] for name in ("originals", "reconstructions", "corrupted", "restored")]
            sheets = {"reconstructions": np.stack(rows)}
            for name in ("samples", "interpolations", "traversal", "best", "worst"):
                if name in arrays and len(arrays[name]):
                    sheets[name] = arrays[name]
            for name, images in sheets.items():
                picture = Path(folder) / f"{name}.png"
                picture.write_bytes(contact_sheet(images))
                self.client.log_artifact(run_id, str(picture), "pictures")


def experiment_id(client: Patient, name: str, artifacts: Path | None) -> str:
    """The id of the experiment of this name, whose artifacts lie under `artifacts`, or where the server says.

    It is made, or made anew where it was deleted or its artifacts lie in an abandoned place.
    """
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


def kill(client: Patient, experiment: str, tag: str, cell: str) -> None:
    """End what claims to be at work on a cell and is not: a run that was begun, whether its id came back or not.

    Args:
        client: asked but for seconds; where it fails, nothing is raised.
        experiment: the id of the experiment.
        tag: the one that names a run's cell.
        cell: `DATASET/VARIANT` or `DATASET/VARIANT/seed-S`.
    """
    hurried = client.in_a_hurry()
    with suppress(Exception, NoAnswer):
        for run in hurried.search_runs([experiment], f"attributes.status = 'RUNNING' and tags.`{tag}` = '{cell}'"):
            hurried.set_terminated(run.info.run_id, "KILLED")


def _all_runs(client: Patient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
