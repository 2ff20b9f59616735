"""baseline DATASET: PCA at the same size, raw pixels and the mean image, to reports/baselines/ and evaluations/."""

import json

import _stage
import _work


def baseline(dataset: str) -> None:
    """Measure the baselines of one data set."""
    params = _stage.cell(dataset)
    from aebench.data.description import describe
    from aebench.evaluation.baselines import document, jobs, npz

    latent_dim, layout = params.network.latent_dim, _stage.LAYOUT
    work, cache = jobs(
        dataset,
        _work.data_sha256(dataset),
        _stage.code(),
        params.data,
        latent_dim,
        params.evaluation,
        params.numerics,
        _work.store(),
    )
    with _work.results(work, cache, dataset, unit="steps") as results:
        _stage.write(layout.baseline_values(dataset), npz(results))
        content = document(dataset, describe(layout.data(dataset)), latent_dim, results)
        _stage.write(layout.baseline(dataset), json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


if __name__ == "__main__":
    _stage.run(baseline)
