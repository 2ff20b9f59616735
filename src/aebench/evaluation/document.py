"""A variant's metrics over its seeds, as its metric file holds them."""

from collections.abc import Mapping
from typing import Any

from aebench.config import Evaluation, RunConfig
from aebench.evaluation.evaluate import Evaluated, Failed
from aebench.evaluation.metrics import chosen_metrics, metrics
from aebench.evaluation.protocol import protocol
from aebench.evaluation.statistics import NEEDS_SEEDS, summary


def document(
    dataset: str, config: RunConfig, evaluation: Evaluation, results: Mapping[int, Evaluated | Failed]
) -> dict[str, Any]:
    """The content of `reports/metrics/DATASET/VARIANT.json`, from the runs by seed.

    Means are over the runs that have not failed; `failed` says which have, and why.
    """
    runs = {seed: run for seed, run in results.items() if isinstance(run, Evaluated)}
    failed = {str(seed): run.reason for seed, run in results.items() if isinstance(run, Failed)}
    first = next(iter(runs.values()), None)
    defined = chosen_metrics(evaluation.extra)
    reasons = dict(first.not_defined) if first else dict.fromkeys(defined, "all its runs have failed")
    summaries = {}
    for metric in first.metrics if first else ():
        is_mean = metrics()[metric].average == "mean"
        per_image = [run.per_image[metric] for run in runs.values()] if is_mean else None
        summaries[metric] = summary([run.metrics[metric] for run in runs.values()], per_image)
        if len(runs) == 1:
            reasons |= {f"{metric}.{statistic}": NEEDS_SEEDS for statistic in ("sd", "ci95")}
        if not is_mean:
            reasons[f"{metric}.ci95_images"] = "is not a mean over images"
    any_run = next(iter(results.values()))
    facts = (any_run.conditional_parts, any_run.own_validation)
    images = len(first.arrays["labels"]) if first else 0
    outside = first.arrays.get("outside_reconstruction_mse") if first else None
    return {
        "dataset": dataset,
        "variant": config.variant,
        "kind": config.model.kind,
        "parameters": any_run.parameters,
        "protocol": protocol(any_run.binarization, config, evaluation, images, *facts)
        | ({} if outside is None else {"outside_images": len(outside)})
        | {"seeds": len(runs), "selected_epoch": {str(seed): run.selected_epoch for seed, run in runs.items()}},
        "seeds": {str(seed): run.metrics for seed, run in runs.items()},
        "failed": failed,
        "weights_sha256": {str(seed): run.weights_sha256 for seed, run in results.items()},
        "summary": summaries,
        "vectors": {
            name: {str(seed): run.vectors[name] for seed, run in runs.items()}
            for name in (first.vectors if first else ())
        },
        "not_defined": reasons,
    }
