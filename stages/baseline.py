"""baseline DATASET: PCA at the same size, raw pixels and the mean image, to reports/baselines/ and evaluations/."""

import json

import _stage


def baseline(dataset: str) -> None:
    """Measure the baselines of one data set."""
    params = _stage.cell(dataset)
    from aebench.evaluation.baselines import document, jobs, npz
    from aebench.execution.jobs import run_all

    work = jobs(dataset, params.data.validation_fraction, params.network.latent_dim, params.evaluation)
    results = run_all(
        work,
        _stage.LAYOUT.data(dataset),
        execution=params.execution,
        numerics=params.numerics,
        unit="steps",
        record=_stage.LAYOUT.timing("baseline", dataset),
    )
    target = _stage.LAYOUT.baseline(dataset)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = document(dataset, params.network.latent_dim, results)
    values = _stage.LAYOUT.baseline_values(dataset)
    values.parent.mkdir(parents=True, exist_ok=True)
    values.write_bytes(npz(results))
    target.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


if __name__ == "__main__":
    _stage.run(baseline)
