"""evaluate DATASET VARIANT: every seed's metrics, to reports/metrics/ and evaluations/."""

import json
from functools import partial

import _stage


def evaluate(dataset: str, variant: str) -> None:
    """Evaluate every seed of one cell."""
    params = _stage.cell(dataset, variant)
    from aebench.evaluation.document import document
    from aebench.evaluation.evaluate import evaluate_run
    from aebench.execution.jobs import run_all
    from aebench.training.checkpoints import read_run

    layout = _stage.LAYOUT
    jobs = {
        f"{variant} seed {seed}": partial(
            evaluate_run,
            read_run(layout.run(dataset, variant, seed)),
            params.evaluation,
            dataset,
            params.data.validation_fraction,
            seed,
            mapped=seed == params.seeds[0],
        )
        for seed in params.seeds
    }
    results = run_all(
        jobs,
        layout.data(dataset),
        execution=params.execution,
        numerics=params.numerics,
        unit="images",
        record=_stage.LAYOUT.timing("evaluate", dataset, variant),
    )
    runs = dict(zip(params.seeds, results.values(), strict=True))
    layout.evaluations(dataset, variant).mkdir(parents=True, exist_ok=True)
    for seed, run in runs.items():
        layout.evaluation(dataset, variant, seed).write_bytes(run.npz())
    metrics = layout.metrics(dataset, variant)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    content = document(dataset, params.run(variant), params.evaluation, runs)
    metrics.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


if __name__ == "__main__":
    _stage.run(evaluate)
