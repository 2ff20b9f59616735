"""Retrain and evaluate one seed of each variant, without anything kept, and compare with the committed results.

It always works in processes on this machine, whatever `execution.engine` says: no result depends on it, and a reviewer
need not have the cluster. Exit code 0: the same weights and metrics bit for bit ("identical"), or metrics within
tolerance; 1: different, or not comparable.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

import _stage

from aebench.errors import ConfigError, DataError
from aebench.fingerprint import LIBRARIES
from aebench.numerics import has_avx2
from aebench.reporting.provenance import pinned

if TYPE_CHECKING:
    from aebench.config import Evaluation, RunConfig
    from aebench.execution.progress import Report

# A metric is within tolerance where it is as near to the committed one as another seed's might be.
SPREADS = 4
# Where one seed tells of no spread: this share of the committed value.
SHARE = 0.01


class Verdict(NamedTuple):
    """`words` is identical, within tolerance or different.

    `metric` differs most, by `difference`; or there is a `reason` for which metrics cannot be compared.
    """

    words: str
    metric: str = ""
    difference: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        most = f"{self.metric} by {self.difference:+.3g}" if self.metric else self.reason
        return f"{self.words}: {most}" if most else self.words


def compare(
    committed: Mapping[str, Any], seed: int, weights_sha256: str, metrics: Mapping[str, float] | str
) -> Verdict:
    """One run against that of `seed` in `committed`, the metric file of its variant.

    Args:
        committed: names the seed among `seeds` or `failed`.
        seed: the run's.
        weights_sha256: the hash of the run's weights.
        metrics: those of the new run, or why it has failed.
    """
    name = str(seed)
    failed, before = committed["failed"].get(name), committed["seeds"].get(name, {})
    same_weights = weights_sha256 == committed["weights_sha256"].get(name)
    if failed is not None or isinstance(metrics, str):
        if failed is None or not isinstance(metrics, str):
            here, there = (f"failed ({why})" if isinstance(why, str) else "did not fail" for why in (metrics, failed))
            return Verdict("different", reason=f"it {here}, the committed one {there}")
        # A failure has no metrics to be near to: that it fails again is all there is.
        return Verdict("identical" if same_weights and metrics == failed else "within tolerance", reason=metrics)
    if metrics == before:
        return Verdict("identical") if same_weights else Verdict("within tolerance", reason="its weights alone differ")
    if metrics.keys() != before.keys():
        names = ", ".join(sorted(metrics.keys() ^ before.keys()))
        return Verdict("different", reason=f"only one of the two has {names}")

    def tolerated(metric: str) -> float:
        spread = committed["summary"].get(metric, {}).get("sd", SHARE / SPREADS * abs(before[metric]))
        return SPREADS * float(spread)

    excess = {metric: abs(metrics[metric] - before[metric]) / (tolerated(metric) or 1e-12) for metric in before}
    worst = max(excess, key=lambda metric: excess[metric])
    words = "within tolerance" if excess[worst] <= 1 else "different"
    return Verdict(words, worst, metrics[worst] - before[worst])


def results_to_compare_with(path: Path, seed: int) -> dict[str, Any]:
    """The content of a metric file as it was committed; where no commit has it, a line says so, and it is as it lies.

    Raises:
        DataError: there is no such file, or it is damaged, or it lacks the seed.
    """
    from aebench.reporting.files import Metrics  # imports NumPy, which must come after the numerics are limited

    name = path.relative_to(_stage.ROOT).as_posix()
    try:
        shown = subprocess.run(
            ["git", "-C", str(_stage.ROOT), "show", f"HEAD:./{name}"], capture_output=True, check=True
        )
        content, where = shown.stdout, f"{path}, as committed,"
    except (OSError, subprocess.CalledProcessError):
        if not path.is_file():
            raise DataError(f"{path} is missing; run `make repro`") from None
        print(f"no commit has {path}: compared with the file as it lies here", file=sys.stderr)
        content, where = path.read_bytes(), str(path)
    try:
        Metrics.model_validate_json(content)
    except ValueError:
        raise DataError(f"{where} is damaged; run `make repro`") from None
    committed: dict[str, Any] = json.loads(content)
    if str(seed) not in {*committed["seeds"], *committed["failed"]}:
        raise DataError(f"{where} has no seed {seed}; run `make repro`")
    return committed


def likely_cause(numerics: str) -> str:
    """Why results that are not identical may not be."""
    versions = pinned(_stage.LAYOUT.pins)
    for package in LIBRARIES:
        if version(package).split("+")[0] != versions[package]:
            return f"another version of {package}: {version(package)} here, {versions[package]} in constraints.txt"
    if numerics == "native":
        return "another kind of CPU: params.yaml has numerics: native"
    if not has_avx2():
        return "a CPU without AVX2, on which results differ in their last bits"
    return "code and results that do not belong together: `git status`, `dvc status`"


def again(
    config: "RunConfig", evaluation: "Evaluation", dataset: str, seed: int, data: Path, report: "Report"
) -> tuple[str, dict[str, float] | str]:
    """In a worker: train and evaluate; the weights' hash, and the metrics or why there are none."""
    from aebench.evaluation.evaluate import Failed, evaluate
    from aebench.evaluation.history import read_history
    from aebench.training.run import train_run
    from aebench.training.trained_run import read_run

    with tempfile.TemporaryDirectory() as folder:
        train_run(config, dataset, seed, data, report).write(Path(folder))
        run = read_run(Path(folder))
        result = evaluate(run, evaluation, data, report, history=read_history(run))
        return run.weights_sha256, result.reason if isinstance(result, Failed) else result.metrics


def verify() -> None:
    """Compare the first seed of every variant on every data set, a line each; the exit code is 1 if any is different.

    Raises:
        ConfigError: the results are a GPU's.
        DataError: a data set's file or a metric file is missing, damaged, or lacks the seed.
    """
    params = _stage.params()
    from aebench.execution.jobs import run_all

    if params.device != "cpu":  # where seeds are stacked, one alone differs; and no two cards need agree
        raise ConfigError(f"device: found {params.device}, allowed: cpu; results are promised bit for bit there alone")
    layout, seed, verdicts = _stage.LAYOUT, params.seeds[0], []
    committed = {}
    for dataset in params.datasets:  # before anything is trained
        if not layout.data(dataset).is_file():
            raise DataError(f"{layout.data(dataset)} is missing; run `dvc repro fetch@{dataset}`")
        for variant in params.variants:
            committed[dataset, variant] = results_to_compare_with(layout.metrics(dataset, variant), seed)
    for dataset in params.datasets:
        jobs = {
            variant: partial(again, params.run(variant), params.evaluation, dataset, seed)
            for variant in params.variants
        }
        results = run_all(
            jobs,
            layout.data(dataset),
            execution=params.execution.model_copy(update={"engine": "processes"}),
            numerics=params.numerics,
            unit="steps",
        )
        for variant, (weights, metrics) in results.items():
            verdict = compare(committed[dataset, variant], seed, weights, metrics)
            verdicts.append(verdict)
            print(f"{dataset} {variant} seed {seed}: {verdict}", flush=True)
    words = {verdict.words for verdict in verdicts}
    if words != {"identical"}:
        print(f"likely cause: {likely_cause(params.numerics)}")
    sys.exit("different" in words)


if __name__ == "__main__":
    _stage.run(verify)
