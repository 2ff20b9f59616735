"""What the report is made of, read from the files that the other stages wrote."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from aebench.config import Params
from aebench.errors import DataError
from aebench.paths import HISTORY, Layout


@dataclass(frozen=True)
class Cell:
    """One variant on one data set: its metric file, and its files for each seed that has not failed."""

    dataset: str
    variant: str
    metrics: dict[str, Any]
    seeds: tuple[int, ...]
    layout: Layout

    @property
    def failed(self) -> dict[str, str]:
        """Why a seed has no figures, by seed."""
        reasons: dict[str, str] = self.metrics["failed"]
        return reasons

    def history(self, seed: int) -> dict[str, list[float]]:
        """The columns of a run's history."""
        path = self.layout.run(self.dataset, self.variant, seed) / HISTORY
        with _found(path, f"train@{self.dataset}-{self.variant}").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        return {name: [float(row[name]) for row in rows] for name in rows[0]}

    def seed_vectors(self, name: str) -> list[list[float]]:
        """A vector of the metric file, for every seed."""
        return [self.metrics["vectors"][name][str(seed)] for seed in self.seeds]

    def seed_values(self, metric: str) -> list[float]:
        """A metric of every seed."""
        return [self.metrics["seeds"][str(seed)][metric] for seed in self.seeds]

    def values(self, metric: str, seeds: Iterable[int]) -> NDArray[np.float64]:
        """The per-image values of a metric, `[S, N]`."""
        found = []
        for seed in seeds:
            with self._archive(seed) as archive:
                found.append(archive[metric])
        return np.stack(found)

    def _archive(self, seed: int) -> NpzFile:
        path = self.layout.evaluation(self.dataset, self.variant, seed)
        archive: NpzFile = np.load(_found(path, f"evaluate@{self.dataset}-{self.variant}"), allow_pickle=False)
        return archive

    def arrays(self, seed: int) -> dict[str, NDArray[Any]]:
        """A run's per-image values, codes and pictures."""
        with self._archive(seed) as archive:
            return dict(archive)


@dataclass(frozen=True)
class Results:
    """All cells that params.yaml names, whatever else lies on the disk, and the baselines of each data set."""

    cells: tuple[Cell, ...]
    baselines: dict[str, dict[str, Any]]

    def classes(self, dataset: str) -> tuple[str, ...]:
        """The names of a data set's classes, in the order of their labels."""
        return tuple(self.baselines[dataset]["data"]["classes"])

    @property
    def raw_files(self) -> dict[str, str]:
        """SHA-256 of the raw files of all data sets, by name."""
        return {name: sha256 for found in self.baselines.values() for name, sha256 in found["data"]["files"].items()}

    def datasets(self) -> Iterator[tuple[str, list[Cell]]]:
        """Each data set with its cells."""
        for dataset in self.baselines:
            yield dataset, [cell for cell in self.cells if cell.dataset == dataset]


def confusion(arrays: Mapping[str, NDArray[Any]], classes: int) -> NDArray[np.int64]:
    """How many test images of each class (row) one run's probe reads as each class (column), `[C, C]`."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (arrays["labels"], arrays["probe_predictions"]), 1)
    return counts


def load(params: Params, layout: Layout) -> Results:
    """Read what `params` names.

    Raises:
        DataError: a file is missing, and the message names the stage that makes it; or there is nothing to compare.
    """
    cells = []
    for dataset in params.datasets:
        for variant in params.variants:
            metrics = _json(layout.metrics(dataset, variant), f"evaluate@{dataset}-{variant}")
            seeds = tuple(seed for seed in params.seeds if str(seed) not in metrics["failed"])
            cells.append(Cell(dataset, variant, metrics, seeds, layout))
        if not any(cell.seeds for cell in cells if cell.dataset == dataset):
            seed, reason = next(iter(cells[-1].failed.items()))
            raise DataError(f"{dataset}: every run has failed, e.g. {variant} seed {seed}: {reason}")
    baselines = {dataset: _json(layout.baseline(dataset), f"baseline@{dataset}") for dataset in params.datasets}
    return Results(tuple(cells), baselines)


def _found(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing; run `dvc repro {stage}`")
    return path


def _json(path: Path, stage: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(_found(path, stage).read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete it and run `dvc repro {stage}`") from None
    return content
