"""A variant's metrics over its seeds, as its metric file holds them."""

from collections.abc import Mapping
from typing import Any

from aebench.config import Evaluation, RunConfig
from aebench.evaluation.evaluate import Evaluated
from aebench.evaluation.protocol import is_median, protocol
from aebench.evaluation.statistics import NEEDS_SEEDS, summary


def document(dataset: str, config: RunConfig, evaluation: Evaluation, runs: Mapping[int, Evaluated]) -> dict[str, Any]:
    """The content of `reports/metrics/DATASET/VARIANT.json`, from the runs by seed."""
    first = next(iter(runs.values()))
    reasons = dict(first.not_defined)
    summaries = {}
    for metric in first.metrics:
        is_mean = metric in first.per_image and not is_median(metric)
        per_image = [run.per_image[metric] for run in runs.values()] if is_mean else None
        summaries[metric] = summary([run.metrics[metric] for run in runs.values()], per_image)
        if len(runs) == 1:
            reasons |= {f"{metric}.{statistic}": NEEDS_SEEDS for statistic in ("sd", "ci95")}
        if not is_mean:
            reasons[f"{metric}.ci95_images"] = "is not a mean over images"
    return {
        "dataset": dataset,
        "variant": config.variant,
        "kind": config.model.kind,
        "parameters": first.parameters,
        "protocol": protocol(dataset, config, evaluation, len(first.arrays["labels"]), first.label_enters)
        | {"seeds": len(runs), "selected_epoch": {str(seed): run.selected_epoch for seed, run in runs.items()}},
        "seeds": {str(seed): run.metrics for seed, run in runs.items()},
        "failed": {},
        "weights_sha256": {str(seed): run.weights_sha256 for seed, run in runs.items()},
        "summary": summaries,
        "vectors": {name: {str(seed): run.vectors[name] for seed, run in runs.items()} for name in first.vectors},
        "not_defined": reasons,
    }
