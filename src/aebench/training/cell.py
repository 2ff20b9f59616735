"""The runs of one cell of the benchmark, ready for workers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from aebench.config import RunConfig
from aebench.execution.jobs import Kept
from aebench.fingerprint import fingerprint
from aebench.paths import Layout
from aebench.store import Store
from aebench.training.checkpoints import TrainedRun
from aebench.training.run import SoFar, train_run


def jobs(
    config: RunConfig,
    dataset: str,
    data_sha256: str,
    seeds: tuple[int, ...],
    layout: Layout,
    store: Store,
    *,
    here: bool,
) -> tuple[dict[str, Callable[..., TrainedRun]], Kept[TrainedRun]]:
    """A job a seed, by name, and where its result is kept.

    Args:
        config: the variant's configuration.
        dataset: the data set's name.
        data_sha256: the hash of its content.
        seeds: one run each.
        layout: where unfinished runs show what they have.
        store: where they leave their checkpoints.
        here: whether the workers are on this machine, and so see both.
    """
    work: dict[str, Callable[..., TrainedRun]] = {}
    keys = {}
    for seed in seeds:
        name = f"{config.variant} seed {seed}"
        facts: dict[str, Any] = {"data": data_sha256, "config": config.model_dump(mode="json"), "seed": seed}
        key = fingerprint("aebench.training.run", f"aebench.variants.{config.model.kind}", dataset=dataset, **facts)
        so_far = SoFar(store, f"{key}.checkpoint", layout.live(dataset, config.variant, seed)) if here else None
        work[name] = partial(train_run, config, dataset, seed, so_far=so_far)
        keys[name] = f"{key}.run"
    return work, Kept(store, keys, TrainedRun.pack, TrainedRun.unpack)
