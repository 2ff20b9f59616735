"""What is to be mirrored: the runs of this checkout, as files, and the keys by which a store knows them."""

import inspect
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aebench.config import Params
from aebench.errors import DataError
from aebench.paths import CONFIG, HISTORY, Layout
from aebench.reporting.files import Metrics, RunDescription, arrays, damaged, document, history
from aebench.reporting.results import flat, statistics
from aebench.tracking.keys import sha256

# What a variant's protocol says of all its seeds together.
_OF_ALL_SEEDS = ("seeds", "selected_epoch")
# What a run's configuration says besides its settings.
_RESULTS = ("images", "selected_epoch", "failed")
# Seconds that a stage may take to write what its jobs have found.
_WRITING = 60


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


@dataclass(frozen=True)
class SeedRun:
    """One trained and evaluated run; `variant_metrics` is the content of its variant's metric file."""

    dataset: str
    variant: str
    seed: int
    layout: Layout
    variant_metrics: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Weights, configuration and history."""
        return self.layout.run(self.dataset, self.variant, self.seed)

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics."""
        metrics: dict[str, float] = self.variant_metrics["seeds"].get(str(self.seed), {})
        return metrics

    @property
    def failed(self) -> str:
        """Why the run has no final metrics; empty where it has."""
        return str(self.variant_metrics["failed"].get(str(self.seed), ""))

    @property
    def _trained_by(self) -> str:
        return f"train@{self.dataset}-{self.variant}"

    @cached_property
    def _config(self) -> dict[str, Any]:
        return document(self.folder / CONFIG, RunDescription, self._trained_by)

    @cached_property
    def _history(self) -> dict[str, list[float]]:
        return history(self.folder / HISTORY, self._trained_by, may_be_empty=bool(self.failed))

    @property
    def _weights_sha256(self) -> str:
        return str(self.variant_metrics["weights_sha256"][str(self.seed)])

    @cached_property
    def key(self) -> str:
        """The hash of the run's results and of what produced them; another seed beside it does not change it."""
        protocol = {
            name: value for name, value in self.variant_metrics["protocol"].items() if name not in _OF_ALL_SEEDS
        }
        files = [(self.folder / name).read_bytes() for name in (CONFIG, HISTORY)]
        return sha256(_json(protocol), _json(self.metrics), self._weights_sha256.encode(), *files)

    @cached_property
    def times(self) -> list[int] | None:
        """When training began and each epoch ended, in milliseconds; none where the result came from a cache."""
        try:
            runtime = json.loads(self.layout.runtime(self.dataset, self.variant, self.seed).read_bytes())
            if runtime["weights_sha256"] != self._weights_sha256:
                return None
            times = [round(1000 * at) for at in (runtime["started_at"], *runtime["epochs_finished_at"])]
            return times if len(times) == 1 + len(self._history["epoch"]) else None
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            return None

    @property
    def trained_here(self) -> bool:
        """Whether this checkout trained the run; else the result came from a cache, and nobody knows who did."""
        return self.times is not None

    def arrays(self, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        """Those of its evaluation, all or those of these `names`.

        Raises:
            DataError: the evaluation is missing or damaged.
        """
        path = self.layout.evaluation(self.dataset, self.variant, self.seed)
        return arrays(path, f"evaluate@{self.dataset}-{self.variant}", names)

    def wall_times(self) -> dict[str, float]:
        """`training_seconds`, from the start to the end of the last epoch, and `evaluation_seconds`, where known."""
        seconds = {}
        if self.times:
            seconds["training_seconds"] = (self.times[-1] - self.times[0]) / 1000
        try:
            timing = json.loads(self.layout.timing("evaluate", self.dataset, self.variant).read_bytes())
            written = self.layout.evaluation(self.dataset, self.variant, self.seed).stat().st_mtime
            # The stage writes its results as soon as its jobs have ended; what DVC's cache brings back is younger.
            if abs(written - timing["ended_at"]) < _WRITING:
                seconds["evaluation_seconds"] = float(timing["seconds"][f"{self.variant} seed {self.seed}"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            pass
        return seconds

    @property
    def validation_loss(self) -> float:
        """That of the epoch whose weights were kept; 0 where nothing was held out.

        Raises:
            DataError: the run's configuration names no epoch of its history.
        """
        losses = self._history.get("validation_loss")
        if not losses:
            return 0.0
        selected = self._config.get("selected_epoch") or 0
        if not 1 <= selected <= len(losses):
            reason = f"selected_epoch is {selected} of {len(losses)}"
            raise damaged(self.folder / CONFIG, self._trained_by, reason)
        return losses[selected - 1]

    def description(self) -> str:
        """What the variant's kind is, in its author's words."""
        return inspect.getdoc(import_module(f"aebench.variants.{self.variant_metrics['kind']}")) or ""

    def settings(self) -> dict[str, str]:
        """Every setting by its name in params.yaml, a variant's own under `model.`, and the number of weights.

        Raises:
            DataError: the run's configuration is damaged.
        """
        description = {key: value for key, value in self._config.items() if key not in _RESULTS}
        description["evaluation"] = self.variant_metrics["protocol"]["evaluation"]
        description["weights"] = self.variant_metrics["parameters"]
        return {name: str(value) for name, value in flat(description)}

    def epochs(self) -> Iterator[tuple[str, float, int, int]]:
        """(name, value, milliseconds since 1970, epoch) for each number of the history."""
        now = round(1000 * time.time())
        for name, values in self._history.items():
            if name != "epoch":
                for epoch, value in enumerate(values, start=1):
                    yield name, value, self.times[epoch] if self.times else now, epoch


@dataclass(frozen=True)
class VariantRuns:
    """A variant's runs, and what they are together."""

    dataset: str
    variant: str
    runs: tuple[SeedRun, ...]

    @cached_property
    def key(self) -> str:
        """The hash of all the runs' keys and of their summary."""
        return sha256(*(run.key.encode() for run in self.runs), _json(self.runs[0].variant_metrics["summary"]))

    @property
    def best(self) -> SeedRun | None:
        """The run with the smallest validation loss, of those that have not failed."""
        well = (run for run in self.runs if not run.failed)
        return min(well, key=lambda run: (run.validation_loss, run.seed), default=None)

    def settings(self) -> dict[str, str]:
        """The settings that the runs share: all but the seed."""
        return {name: value for name, value in self.runs[0].settings().items() if name != "seed"}

    def metrics(self) -> dict[str, float]:
        """Mean, standard deviation and ends of the intervals of each metric, the mean under the metric's own name."""
        summaries = self.runs[0].variant_metrics["summary"]
        return {
            f"{metric}_{name}".removesuffix("_mean"): value
            for metric, summary in summaries.items()
            for name, value in statistics(summary).items()
        }


def read_runs(params: Params, layout: Layout) -> list[VariantRuns]:
    """The runs of every cell that `params` names.

    Raises:
        DataError: a file is missing or damaged; the message says what to do.
    """
    cells = []
    try:
        for dataset in params.datasets:
            for variant in params.variants:
                metrics = document(layout.metrics(dataset, variant), Metrics, f"evaluate@{dataset}-{variant}")
                runs = tuple(
                    SeedRun(dataset, variant, int(seed), layout, metrics)
                    for seed in sorted({*metrics["seeds"], *metrics["failed"]}, key=int)
                )
                cells.append(VariantRuns(dataset, variant, runs))
                # Reads the files, so that a missing or damaged one is noticed before anything is written.
                _ = cells[-1].key, cells[-1].best, [(run.settings(), run.times, run.description()) for run in runs]
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run `dvc repro` first") from None
    except (ValueError, KeyError, ImportError) as error:
        raise DataError(f"a result of {variant} on {dataset} is damaged ({error}); run `dvc repro` first") from None
    return cells
