"""Retrain and evaluate one seed of each variant, without anything kept, and compare with the committed results.

Exit code 0: the same weights and metrics bit for bit ("identical"), or metrics within tolerance; 1: different.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

import _stage

from aebench.errors import DataError

if TYPE_CHECKING:
    from aebench.config import Evaluation, RunConfig
    from aebench.execution.progress import Report

# A metric is within tolerance where it is as near to the committed one as another seed's might be.
SPREADS = 4
# Where one seed tells of no spread: this share of the committed value.
SHARE = 0.01


class Verdict(NamedTuple):
    """`words` is identical, within tolerance or different; `metric` differs most, by `difference`.

    Where metrics cannot be compared, `metric` is the reason: the names that only one side has, or why a run failed.
    """

    words: str
    metric: str = ""
    difference: float = 0.0


def compare(committed: Mapping[str, Any], seed: int, weights_sha256: str, metrics: Mapping[str, float]) -> Verdict:
    """One run's weights and metrics against those of `seed` in `committed`, the metric file of its variant."""
    before = committed["seeds"][str(seed)]
    if metrics == before and weights_sha256 == committed["weights_sha256"][str(seed)]:
        return Verdict("identical")
    if metrics.keys() != before.keys():
        return Verdict("different", metric=", ".join(sorted(metrics.keys() ^ before.keys())))

    def tolerated(metric: str) -> float:
        return SPREADS * float(committed["summary"][metric].get("sd", SHARE / SPREADS * abs(before[metric])))

    excess = {name: abs(metrics[name] - before[name]) / (tolerated(name) or 1e-12) for name in before}
    worst = max(excess, key=lambda name: excess[name])
    words = "within tolerance" if excess[worst] <= 1 else "different"
    return Verdict(words, worst, metrics[worst] - before[worst])


def likely_cause(numerics: str) -> str:
    """Why results that are not identical may not be."""
    pinned = dict(
        line.split("==") for line in (_stage.ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    for package in ("torch", "numpy", "scipy", "scikit-learn"):
        if version(package).split("+")[0] != pinned[package]:
            return f"another version of {package}: {version(package)} here, {pinned[package]} in constraints.txt"
    if numerics == "native":
        return "another kind of CPU: params.yaml has numerics: native"
    return f"another kind of CPU ({platform.machine()}), or code and results that do not belong together: `dvc status`"


def again(
    config: "RunConfig", evaluation: "Evaluation", dataset: str, seed: int, mapped: bool, data: Path, report: "Report"
) -> tuple[str, dict[str, float] | str]:
    """In a worker: train and evaluate; the weights' hash, and the metrics or why there are none."""
    from aebench.evaluation.evaluate import Failed, evaluate
    from aebench.training.checkpoints import read_run
    from aebench.training.run import train_run

    with tempfile.TemporaryDirectory() as folder:
        train_run(config, dataset, seed, data, report).write(Path(folder))
        run = read_run(Path(folder))
        result = evaluate(
            run,
            evaluation,
            dataset,
            config.data.validation_fraction,
            seed,
            data,
            report,
            mapped=mapped,
            device=config.device,
        )
        return run.weights_sha256, result.reason if isinstance(result, Failed) else result.metrics


def verify() -> None:
    """Compare the first seed of every variant on every data set, a line each; the exit code is 1 if any is different.

    Raises:
        DataError: a data set's file is missing.
    """
    params = _stage.params()
    from aebench.execution.jobs import run_all

    layout, seed, verdicts = _stage.LAYOUT, params.seeds[0], []
    for dataset in params.datasets:
        if not layout.data(dataset).is_file():
            raise DataError(f"{layout.data(dataset)} is missing; run `dvc repro fetch@{dataset}`")
        jobs = {
            variant: partial(again, params.run(variant), params.evaluation, dataset, seed, False)
            for variant in params.variants
        }
        results = run_all(
            jobs,
            layout.data(dataset),
            execution=params.execution,
            numerics=params.numerics,
            device=params.device,
            unit="steps",
        )
        for variant, (weights, found) in results.items():
            committed = json.loads(layout.metrics(dataset, variant).read_bytes())
            if isinstance(found, str):
                same = committed["failed"].get(str(seed)) == found
                verdict = Verdict("identical" if same else "different", found)
            elif str(seed) in committed["failed"]:
                verdict = Verdict("different", committed["failed"][str(seed)])
            else:
                verdict = compare(committed, seed, weights, found)
            verdicts.append(verdict)
            most = f": {verdict.metric} by {verdict.difference:+.3g}" if verdict.metric else ""
            print(f"{dataset} {variant} seed {seed}: {verdict.words}{most}", flush=True)
    words = {verdict.words for verdict in verdicts}
    if words != {"identical"}:
        print(f"likely cause: {likely_cause(params.numerics)}")
    sys.exit("different" in words)


if __name__ == "__main__":
    _stage.run(verify)
