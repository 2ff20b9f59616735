"""train DATASET VARIANT: one run a seed, side by side, to runs/DATASET/VARIANT/seed-S/."""

import json
import sys
from itertools import chain

import _stage
import _work


def train(dataset: str, variant: str) -> None:
    """Train every seed of one cell."""
    params = _stage.cell(dataset, variant)
    from aebench.training import cell

    layout = _stage.LAYOUT
    jobs, cache = cell.jobs(
        params.run(variant),
        dataset,
        _work.data_sha256(dataset),
        _stage.code(variant),
        params.seeds,
        layout,
        _work.store(),
        local=params.execution.engine == "processes",
    )
    with _work.results(jobs, cache, dataset, variant, unit="epochs") as results:
        _stage.empty(layout.runs(dataset, variant))
        for seed, result in zip(params.seeds, chain.from_iterable(results.values()), strict=True):
            if result.failed:
                print(f"warning: {variant} seed {seed}: {result.failed}", file=sys.stderr)
            result.write(layout.run(dataset, variant, seed))
            _stage.write(layout.runtime(dataset, variant, seed), json.dumps(result.runtime()))
            layout.live_history(dataset, variant, seed).unlink(missing_ok=True)
        for key in cache.keys.values():
            cache.store.discard(key.replace(".run", ".checkpoint"))


if __name__ == "__main__":
    _stage.run(train)
