"""The evaluations of one cell of the benchmark, ready for workers."""

from collections.abc import Callable, Mapping
from functools import partial

from aebench.config import Evaluation
from aebench.evaluation.evaluate import Evaluated, Failed, evaluate, unpack
from aebench.evaluation.history import read_history
from aebench.execution.jobs import ResultCache
from aebench.fingerprint import key
from aebench.store import Store
from aebench.training.trained_run import StoredRun


def jobs(
    runs: Mapping[int, StoredRun], config: Evaluation, dataset: str, data_sha256: str, code: str, store: Store
) -> tuple[dict[str, Callable[..., Evaluated | Failed]], ResultCache[Evaluated | Failed]]:
    """A job a run, by name, and where its result is kept.

    Args:
        runs: a variant's runs by seed; a map of the codes is drawn for the first that has not failed.
        config: K, the proposal, the corruption, the ex-post density.
        dataset: the data set's name.
        data_sha256: the hash of its content.
        code: the fingerprint of the code that evaluates.
        store: where finished evaluations are kept.

    Raises:
        TrainingError: a run's history is missing or damaged.
    """
    work: dict[str, Callable[..., Evaluated | Failed]] = {}
    keys = {}
    drawn = next((seed for seed, run in runs.items() if not run.failed), None)
    for seed, run in runs.items():
        name = f"{run.description['variant']} seed {seed}"
        mapped = seed == drawn
        history = read_history(run)
        work[name] = partial(evaluate, run, config, history=history, mapped=mapped)
        known_by = key(
            code,
            dataset=dataset,
            data=data_sha256,
            run=run.description,
            weights=run.weights_sha256,
            history=history,
            evaluation=config.model_dump(mode="json"),
            mapped=mapped,
        )
        keys[name] = f"{known_by}.evaluation"
    return work, ResultCache(store, keys, lambda result: result.pack(), unpack)
