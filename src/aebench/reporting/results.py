"""What the report is made of, read from the files that the other stages wrote."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebench.config import Params
from aebench.errors import DataError
from aebench.evaluation.metrics import Metric, chosen_metrics, metrics
from aebench.paths import HISTORY, Layout
from aebench.reporting.files import Baselines, Metrics, arrays, damaged, document, history

Form = tuple[int | str, ...]
"""An array's shape; a name in it is a size that is not 0, and the same wherever the name stands."""


@dataclass(frozen=True)
class Cell:
    """One variant on one data set: its metric file, and its files for each seed that has not failed.

    `data` describes the data set. What reads a file raises a `DataError` where that is missing or damaged.
    """

    dataset: str
    variant: str
    metrics: dict[str, Any]
    data: dict[str, Any]
    seeds: tuple[int, ...]
    layout: Layout

    @property
    def failed(self) -> dict[str, str]:
        """Why a seed has no figures, by seed."""
        reasons: dict[str, str] = self.metrics["failed"]
        return reasons

    @property
    def still_improving(self) -> float:
        """The share of the runs that were still improving when training ended; 0 where it is not known."""
        share: float = self.metrics["summary"].get("still_improving", {}).get("mean", 0.0)
        return share

    @property
    def _evaluated_by(self) -> str:
        return f"evaluate@{self.dataset}-{self.variant}"

    def history(self, seed: int) -> dict[str, list[float]]:
        """The columns of a run's history."""
        folder = self.layout.run(self.dataset, self.variant, seed)
        return history(folder / HISTORY, f"train@{self.dataset}-{self.variant}")

    def seed_vectors(self, name: str) -> list[list[float]]:
        """A vector of the metric file, for each of `seeds`."""
        return [self._of_seed(seed, "vectors", name, str(seed)) for seed in self.seeds]

    def seed_values(self, metric: str) -> list[float]:
        """A metric's value for each of `seeds`."""
        return [self._of_seed(seed, "seeds", str(seed), metric) for seed in self.seeds]

    def _of_seed(self, seed: int, *keys: str) -> Any:
        value: Any = self.metrics
        for key in keys:
            if key not in value:
                path = self.layout.metrics(self.dataset, self.variant)
                raise damaged(path, self._evaluated_by, f"{'.'.join(keys)} is missing")
            value = value[key]
        return value

    def values(self, metric: str, seeds: Iterable[int]) -> NDArray[np.float64]:
        """The per-image values of a metric, `[S, N]`."""
        images = metrics()[metric].images(self.metrics["protocol"])
        of_seeds = []
        for seed in seeds:
            values = arrays(self._archive(seed), self._evaluated_by, [metric])[metric]
            self._check(seed, metric, values, (images,), {})
            of_seeds.append(values)
        return np.stack(of_seeds)

    def arrays(self, seed: int) -> dict[str, NDArray[Any]]:
        """A run's per-image values, codes and pictures; of the form in which pictures need them."""
        read = arrays(self._archive(seed), self._evaluated_by)
        sizes: dict[str, int] = {}
        for name, form in self._forms(read).items():
            if name in read:
                self._check(seed, name, read[name], form, sizes)
            elif name not in ("samples", "neighbourhoods", "mapped_images"):
                raise damaged(self._archive(seed), self._evaluated_by, f"it holds no {name}")
        for name in ("labels", "probe_predictions"):
            classes = len(self.data["classes"])
            if read[name].dtype.kind not in "iu" or read[name].min() < 0 or read[name].max() >= classes:
                raise damaged(self._archive(seed), self._evaluated_by, f"{name} are not those of {self.dataset}")
        if ("neighbourhoods" in read) != ("mapped_images" in read):
            raise damaged(self._archive(seed), self._evaluated_by, "of a map it holds either points or images")
        return read

    def _forms(self, read: Mapping[str, NDArray[Any]]) -> dict[str, Form]:
        """The shapes of the arrays behind pictures."""
        image, images = tuple(self.data["shape"]), self.metrics["protocol"]["images"]
        shown = len(np.unique(read.get("labels", ())))  # an image of each class
        rows = len(self.data["classes"]) if self.metrics["protocol"]["trained_with_labels"] else "rows"
        return {
            **dict.fromkeys(("labels", "probe_predictions"), (images,)),
            **{"codes": (images, "latents"), "plane": (images, 2)},
            **{"neighbourhoods": ("mapped", 2), "mapped_images": ("mapped", *image)},
            **dict.fromkeys(("originals", "reconstructions", "corrupted", "restored"), (shown, *image)),
            **dict.fromkeys(("best", "worst"), (2, "columns", *image)),
            **{"traversed": ("traversed",), "traversal": ("traversed", "steps", *image)},
            **{"samples": (rows, "samples", *image), "interpolations": (shown // 2, "steps", *image)},
        }

    def _check(self, seed: int, name: str, values: NDArray[Any], form: Form, sizes: dict[str, int]) -> None:
        """Look whether an array has its form; `sizes` are those of the names of forms, as far as they are known."""
        shape = [
            sizes.setdefault(size, max(length, 1)) if isinstance(size, str) else size
            for size, length in zip(form, values.shape, strict=False)
        ]
        fits = len(form) == values.ndim and shape == list(values.shape)
        if not fits or not np.isfinite(values).all():
            reason = "has numbers that are not finite" if fits else f"has the shape {list(values.shape)}"
            raise damaged(self._archive(seed), self._evaluated_by, f"{name} {reason}")

    def _archive(self, seed: int) -> Path:
        return self.layout.evaluation(self.dataset, self.variant, seed)


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
        """SHA-256 of the raw files of all data sets, by DATASET/FILE: MNIST and KMNIST have files of the same names."""
        return {
            f"{dataset}/{name}": sha256
            for dataset, baseline in self.baselines.items()
            for name, sha256 in baseline["data"]["files"].items()
        }

    def datasets(self) -> Iterator[tuple[str, list[Cell]]]:
        """Each data set with its cells."""
        for dataset in self.baselines:
            yield dataset, [cell for cell in self.cells if cell.dataset == dataset]


def measured_in(cells: Iterable[Cell]) -> Mapping[str, Metric]:
    """The metrics that were to be measured in any of `cells`: the optional ones only where one was evaluated so."""
    extra = [cell.metrics["protocol"]["evaluation"].get("extra", []) for cell in cells]
    return chosen_metrics(dict.fromkeys(name for names in extra for name in names))


def statistics(summary: Mapping[str, Any]) -> dict[str, float]:
    """A metric's mean, sd and ends of intervals, such as `ci95_low`: those that its summary has."""
    columns = {name: summary[name] for name in ("mean", "sd") if name in summary}
    for name in ("ci95", "ci95_images"):
        if name in summary:
            columns[f"{name}_low"], columns[f"{name}_high"] = summary[name]
    return columns


def in_its_unit(value: float, metric: Metric, *, sign: str = "", more: int = 0) -> str:
    """A value in the unit and with the digits in which its metric is shown, or with some digits more."""
    return f"{value * metric.scale:{sign}.{metric.digits + more}f}".replace("-", "−")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings without nesting, by their names in params.yaml, e.g. `training.epochs`."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def confusion(arrays: Mapping[str, NDArray[Any]], classes: int) -> NDArray[np.int64]:
    """How many test images of each class (row) one run's probe reads as each class (column), `[C, C]`."""
    places = arrays["labels"] * classes + arrays["probe_predictions"]
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def load(params: Params, layout: Layout) -> Results:
    """Read what `params` names.

    Raises:
        DataError: a file is missing or damaged, and the message names the stage that makes it; or all runs have failed.
    """
    cells, baselines = [], {}
    for dataset in params.datasets:
        baselines[dataset] = document(layout.baseline(dataset), Baselines, f"baseline@{dataset}")
        for variant in params.variants:
            path, stage = layout.metrics(dataset, variant), f"evaluate@{dataset}-{variant}"
            metrics = document(path, Metrics, stage)
            if missing := {str(seed) for seed in params.seeds} - metrics["seeds"].keys() - metrics["failed"].keys():
                raise DataError(f"{path} lacks the seeds {', '.join(sorted(missing))}; run `dvc repro {stage}`")
            seeds = tuple(seed for seed in params.seeds if str(seed) not in metrics["failed"])
            cells.append(Cell(dataset, variant, metrics, baselines[dataset]["data"], seeds, layout))
        if not any(cell.seeds for cell in cells if cell.dataset == dataset):
            seed, reason = next(iter(cells[-1].failed.items()))
            raise DataError(f"{dataset}: every run has failed, e.g. {variant} seed {seed}: {reason}")
    return Results(tuple(cells), baselines)
