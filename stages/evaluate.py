"""evaluate DATASET VARIANT: every seed's metrics, to reports/metrics/ and evaluations/."""

import json

import _stage
import _work


def evaluate(dataset: str, variant: str) -> None:
    """Evaluate every seed of one cell."""
    params = _stage.cell(dataset, variant)
    from aebench.evaluation import cell
    from aebench.evaluation.document import document
    from aebench.evaluation.evaluate import Evaluated
    from aebench.training.trained_run import read_run

    layout = _stage.LAYOUT
    trained = {seed: read_run(layout.run(dataset, variant, seed)) for seed in params.seeds}
    data_sha256, code = _work.data_sha256(dataset), _stage.code(variant)
    jobs, cache = cell.jobs(trained, params.evaluation, dataset, data_sha256, code, _work.store())
    with _work.results(jobs, cache, dataset, variant, unit="images") as results:
        runs = dict(zip(params.seeds, results.values(), strict=True))
        _stage.empty(layout.evaluations(dataset, variant))  # which is there also where all runs have failed
        for seed, run in runs.items():
            if isinstance(run, Evaluated):
                _stage.write(layout.evaluation(dataset, variant, seed), run.npz())
        content = document(dataset, params.run(variant), params.evaluation, runs)
        _stage.write(
            layout.metrics(dataset, variant), json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
        )


if __name__ == "__main__":
    _stage.run(evaluate)
