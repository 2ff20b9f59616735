"""All runs of a cell of the benchmark, a variant on a data set, as jobs for workers."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aebench.config import RunConfig
from aebench.execution.jobs import ResultCache
from aebench.fingerprint import key
from aebench.paths import Layout
from aebench.store import Store
from aebench.training.checkpoints import Checkpoints
from aebench.training.run import train_runs
from aebench.training.trained_run import TrainedRun, pack_runs, unpack_runs

if TYPE_CHECKING:
    from aebench.execution.progress import Report

# Seconds between checkpoints, at least: a small run would spend its time on them, and a cluster its network.
INTERVAL, INTERVAL_ON_A_CLUSTER = 1.0, 30.0


def jobs(
    config: RunConfig,
    dataset: str,
    data_sha256: str,
    code: str,
    seeds: Sequence[int],
    layout: Layout,
    store: Store,
    *,
    local: bool,
) -> tuple[dict[str, Callable[..., list[TrainedRun]]], ResultCache[list[TrainedRun]]]:
    """The training of all seeds by name, in their order: a job a seed, or on a GPU one for all of them together.

    Args:
        config: the variant's configuration.
        dataset: the data set's name.
        data_sha256: the hash of its content.
        code: the fingerprint of the code that trains.
        seeds: one run each.
        layout: where unfinished runs show what they have.
        store: where runs are kept, and their checkpoints.
        local: whether the workers are on this machine, and so see both; else the scheduler of their cluster has the
            checkpoints, and forgets each when its runs have ended.

    Returns:
        The jobs, each of which gives its seeds' runs, and where these are kept.
    """
    facts: dict[str, Any] = {"dataset": dataset, "data": data_sha256, "config": config.model_dump(mode="json")}
    work: dict[str, Callable[..., list[TrainedRun]]] = {}
    keys: dict[str, str] = {}

    def checkpoints(name: str, *seeds: int) -> Checkpoints:
        if local:
            live = [layout.live_history(dataset, config.variant, seed) for seed in seeds]
            return Checkpoints(store, f"{keys[name]}.checkpoint", INTERVAL, live)
        from aebench.execution.cluster import SchedulerShelf

        return Checkpoints(SchedulerShelf(), f"{keys[name]}.checkpoint", INTERVAL_ON_A_CLUSTER)

    train = partial(train_runs, config, dataset)
    if config.device == "cpu":
        for seed in seeds:
            name = f"{config.variant} seed {seed}"
            keys[name] = key(code, **facts, seed=seed)
            work[name] = partial(train, [seed], stacked=False, checkpoints=checkpoints(name, seed))
    else:
        name = f"{config.variant} seeds {', '.join(map(str, seeds))}"
        # Rounding depends on how many are stacked.
        keys[name] = key(code, **facts, seeds=list(seeds))
        work[name] = partial(train, seeds, stacked=True, checkpoints=checkpoints(name, *seeds))
    if not local:
        work = {name: partial(_then_discard, job, checkpoints(name)) for name, job in work.items()}
    return work, ResultCache(store, {name: f"{entry}.run" for name, entry in keys.items()}, pack_runs, unpack_runs)


def _then_discard(
    job: Callable[..., list[TrainedRun]], checkpoints: Checkpoints, data: Path | bytes, report: "Report"
) -> list[TrainedRun]:
    """A job whose checkpoint is where no stage could tidy up."""
    runs = job(data, report)
    checkpoints.discard()
    return runs
