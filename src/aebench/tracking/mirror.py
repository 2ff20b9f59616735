"""One sync: what a store holds is compared with what lies here, and what it lacks is added.

A run is known by its key, so a second sync adds nothing, and a sync to another store fills it completely. The key is
written last: a run without one was broken off and is replaced.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run

from aebench.data.sources import checksum
from aebench.paths import CONFIG, HISTORY, WEIGHTS, Layout
from aebench.reporting.files import existing
from aebench.reporting.sheets import contact_sheet
from aebench.tracking import facts, views
from aebench.tracking.address import in_a_copy
from aebench.tracking.client import (
    CELL,
    DIGEST,
    FAILED,
    LIVE,
    NOTE,
    PARENT,
    ROLE,
    SUPERSEDED,
    TRAINED_HERE,
    connect,
    experiment_id,
    mark_killed,
    store_session,
)
from aebench.tracking.keys import KEY
from aebench.tracking.models import register
from aebench.tracking.runs import SeedRun, VariantRuns
from aebench.tracking.timeouts import TimeoutProxy

BATCH = 900  # MLflow takes at most 1000 metrics in one request


def mirror(cells: Iterable[VariantRuns], experiment: str, layout: Layout) -> tuple[int, int]:
    """Fill the store; how many runs were added, and how many were there.

    Args:
        cells: what is to be mirrored.
        experiment: experiments are named `experiment/DATASET`.
        layout: where the results lie.

    Raises:
        DataError: a data set or an evaluation is missing or damaged.
        FileError: the checkout may not be written to.
        StoreError: the store cannot be reached, or does not do as it is asked.
    """
    with store_session(layout):
        client = connect(layout)
        experiments: dict[str, _Experiment] = {}
        for cell in cells:
            if cell.dataset not in experiments:
                experiments[cell.dataset] = _Experiment(client, experiment, layout, cell.dataset)
            experiments[cell.dataset].add(cell)
        for one in experiments.values():
            one.supersede()
            one.offer_views()
    return sum(one.added for one in experiments.values()), sum(one.kept for one in experiments.values())


class _Experiment:
    """The experiment of one data set: the runs that it holds, and those that are added."""

    def __init__(self, client: TimeoutProxy, experiment: str, layout: Layout, dataset: str) -> None:
        self.client = client
        self.added = self.kept = 0
        self._name = experiment
        self._id = experiment_id(client, f"{experiment}/{dataset}", layout)
        self._present = list(_all_runs(client, self._id))
        self._current: set[str] = set()
        self._metrics: list[set[str]] = []
        self._tags = facts.of_checkout(layout.root)
        self._main = not in_a_copy(layout)
        digest = checksum(existing(layout.data(dataset), f"fetch@{dataset}"))[:32]
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
            elif not self._has_files(child, run):  # somebody has removed some
                self._log_files(child, run)
            self.client.set_tag(child, PARENT, parent)
            self._replace_live(f"{name}/seed-{run.seed}", run.layout.live_history(run.dataset, run.variant, run.seed))
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
            mark_killed(self.client, self._id, CELL, tags[CELL])
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

    def _has_files(self, run_id: str, run: SeedRun) -> bool:
        """Whether a run still has all that was logged, as far as its top folder shows."""
        wanted = {WEIGHTS, CONFIG, HISTORY} if run.failed else {WEIGHTS, CONFIG, HISTORY, "pictures"}
        return wanted <= {file.path for file in self.client.list_artifacts(run_id)}

    def _log_files(self, run_id: str, run: SeedRun) -> None:
        """Weights, configuration, history and, unless it has failed, pictures."""
        for name in (WEIGHTS, CONFIG, HISTORY):
            self.client.log_artifact(run_id, str(run.folder / name))
        if run.failed:
            return
        rows = run.arrays(("originals", "reconstructions", "corrupted", "restored"))
        arrays = run.arrays()
        with tempfile.TemporaryDirectory() as folder:
            sheets = {"reconstructions": np.stack(list(rows.values()))}
            for name in ("samples", "interpolations", "traversal", "best", "worst"):
                if name in arrays and len(arrays[name]):
                    sheets[name] = arrays[name]
            for name, images in sheets.items():
                picture = Path(folder) / f"{name}.png"
                picture.write_bytes(contact_sheet(images))
                self.client.log_artifact(run_id, str(picture), "pictures")


def _all_runs(client: TimeoutProxy, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
