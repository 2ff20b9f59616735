"""Histories of runs that are in training, shown in MLflow as they grow.

Training writes `.aebench/live/DATASET/VARIANT/seed-S.csv`, its history so far, after its epochs, at most once a second,
and the stage removes the file when it writes its results. This reads those files from another process, so no store,
whatever it does, can stop or slow a training. A run that is shown so is RUNNING while its file is there and somebody
watches, then FINISHED or KILLED, and `track` removes it when it mirrors the results.
"""

import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param

from aebench.config import Params
from aebench.errors import UserError
from aebench.paths import HISTORY, Layout
from aebench.reporting.results import flat
from aebench.tracking import facts
from aebench.tracking.client import (
    LIVE,
    ROLE,
    SUPERSEDED,
    StoreError,
    connect,
    experiment_id,
    mark_killed,
    store_session,
)

INTERVAL = 5.0  # seconds between two looks


@dataclass
class _Shown:
    """A run in the store: the first line of its history, and how many epochs of it are there."""

    run_id: str
    first: Mapping[str, str]
    epochs: int = 0


class Watch:
    """The runs in training, and what the store has of them."""

    def __init__(self, params: Params, layout: Layout) -> None:
        """Open the store, a database of which is made where it is missing; a server is not asked anything yet.

        Raises:
            FileError: the checkout may not be written to.
            StoreError: the database cannot be opened.
        """
        self._params, self._layout = params, layout
        with store_session(layout):
            self._client = connect(layout)
        self._shown: dict[Path, _Shown] = {}

    def look(self) -> list[str]:
        """Bring the store up to date with the files as they are now; a line for each run that came or went.

        Raises:
            FileError: the checkout may not be written to.
            StoreError: the store did not do its part; the next look does what this one left.
        """
        said: list[str] = []
        with store_session(self._layout):
            present = self._layout.live_histories()
            for path in present:
                rows = _rows(path)
                shown = self._shown.get(path)
                if not rows:
                    continue  # it is being written
                if shown and (len(rows) < shown.epochs or shown.first != rows[0]):
                    self._end(path)  # it began anew
                    shown = None
                if shown is None:
                    shown = self._begin(path, rows[0])
                    said.append(f"{_name(path)}: in training")
                self._log(shown, rows)
            for path in set(self._shown) - set(present):
                said.append(f"{_name(path)}: {self._end(path).lower()}")
        return said

    def stop(self) -> None:
        """End what is shown as RUNNING, which would stay so when nobody watches any more.

        Raises:
            StoreError: the store did not do its part.
        """
        with store_session(self._layout):
            for path in list(self._shown):
                self._end(path)

    def _begin(self, path: Path, first: Mapping[str, str]) -> _Shown:
        """A new run, in place of one that an earlier watch left of the same training."""
        dataset, variant, seed = _cell(path)
        cell = f"{dataset}/{variant}/seed-{seed}"
        experiment = experiment_id(self._client, f"{self._params.tracking.experiment}/{dataset}", self._layout)
        for old in self._client.search_runs([experiment], f"tags.`{LIVE}` = '{cell}'"):
            self._client.delete_run(old.info.run_id)
        tags = {LIVE: cell, ROLE: "seed", SUPERSEDED: "false", **facts.of_checkout(self._layout.root)}
        tags |= facts.of_system()
        try:
            created = self._client.create_run(experiment, tags=tags, run_name=f"{variant} seed {seed} (in training)")
            shown = self._shown[path] = _Shown(created.info.run_id, first)
        except BaseException:  # an interrupt too
            mark_killed(self._client, experiment, LIVE, cell)
            raise
        settings: dict[str, Any] = {"dataset": dataset, "seed": seed, "variant": variant}
        if variant in self._params.models:
            settings |= self._params.run(variant).model_dump(mode="json", exclude_none=True)
        self._client.log_batch(shown.run_id, params=[Param(name, str(value)) for name, value in flat(settings)])
        return shown

    def _log(self, shown: _Shown, rows: list[dict[str, str]]) -> None:
        """Log the epochs that are new."""
        now = round(1000 * time.time())
        for epoch, row in enumerate(rows[shown.epochs :], start=shown.epochs + 1):
            values = {name: float(value) for name, value in row.items() if name != "epoch"}
            self._client.log_batch(shown.run_id, [Metric(name, value, now, epoch) for name, value in values.items()])
            shown.epochs = epoch

    def _end(self, path: Path) -> str:
        """FINISHED, with the epochs that were missed, where the file gave way to results; else KILLED."""
        shown = self._shown[path]
        dataset, variant, seed = _cell(path)
        results = self._layout.run(dataset, variant, seed) / HISTORY
        rows = _rows(results) if results.is_file() and not path.exists() else []
        status = "FINISHED" if rows and rows[0] == shown.first else "KILLED"
        if status == "FINISHED":
            self._log(shown, rows)
        self._client.set_terminated(shown.run_id, status)
        del self._shown[path]
        return status


def watch(params: Params, layout: Layout, log: Callable[[str], None]) -> None:
    """Look every few seconds, until interrupted; a store that fails is a line, once, and asked again.

    Args:
        params: names the experiment, and gives the settings that are shown.
        layout: where the files lie.
        log: gets a line about what came and went.

    Raises:
        UserError: the checkout may not be written to, or its database cannot be opened.
    """
    try:
        watching, complaint = Watch(params, layout), ""
    except StoreError as error:  # MLflow does not open a database anew in a process in which it was damaged
        raise UserError(f"MLflow's store cannot be opened: {error}") from None
    log(f"watching {layout.scratch / 'live'} (Ctrl-C ends it)")
    try:
        while True:
            try:
                for line in watching.look():
                    log(line)
                complaint = ""
            except StoreError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log(f"warning: MLflow was not reached, the next look tries again: {complaint}")
            time.sleep(INTERVAL)
    finally:
        try:
            watching.stop()
        except StoreError as error:
            log(f"warning: MLflow was not told that nobody watches any more: {error}")


def _rows(path: Path) -> list[dict[str, str]]:
    """The complete lines of a history; a line that is being written is left for the next look."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [row for row in rows if None not in row.values() and None not in row]


def _cell(path: Path) -> tuple[str, str, int]:
    """The data set, the variant and the seed of a live history."""
    return path.parts[-3], path.parts[-2], int(path.stem.removeprefix("seed-"))


def _name(path: Path) -> str:
    return "{}/{} seed {}".format(*_cell(path))
