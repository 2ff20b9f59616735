"""train DATASET VARIANT: one run a seed, side by side, to runs/DATASET/VARIANT/seed-S/."""

import json
from functools import partial

import _stage


def train(dataset: str, variant: str) -> None:
    """Train every seed of one cell."""
    params = _stage.cell(dataset, variant)
    from aebench.execution.jobs import run_all
    from aebench.training.run import train_run

    layout, config = _stage.LAYOUT, params.run(variant)
    jobs = {f"{variant} seed {seed}": partial(train_run, config, dataset, seed) for seed in params.seeds}
    results = run_all(
        jobs,
        layout.data(dataset),
        execution=params.execution,
        numerics=params.numerics,
        unit="epochs",
        record=_stage.LAYOUT.timing("train", dataset, variant),
    )
    for seed, result in zip(params.seeds, results.values(), strict=True):
        result.write(layout.run(dataset, variant, seed))
        runtime = layout.runtime(dataset, variant, seed)
        runtime.parent.mkdir(parents=True, exist_ok=True)
        runtime.write_text(json.dumps(result.runtime()))


if __name__ == "__main__":
    _stage.run(train)
