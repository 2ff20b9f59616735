"""Results do not depend on how many workers there are, nor on who ends first."""

from functools import partial
from pathlib import Path

import pytest
from test_evaluate import EVALUATION, config

from aebench.config import Execution
from aebench.evaluation.evaluate import Evaluated, evaluate
from aebench.execution.jobs import run_all
from aebench.training.run import train_run
from aebench.training.trained_run import read_run

SEEDS = (0, 1, 2, 3)


def results(data: Path, folder: Path, variant: str, workers: int, order: tuple[int, ...]) -> dict[int, Evaluated]:
    """Train and evaluate four seeds, submitted in `order`."""
    execution = Execution(workers=workers, source_dir=None)
    training = {f"{seed}": partial(train_run, config(variant), "digits", seed) for seed in order}
    for seed, run in run_all(training, data, execution=execution, numerics="native", unit="epochs").items():
        run.write(folder / seed)
    evaluation = {f"{seed}": partial(evaluate, read_run(folder / f"{seed}"), EVALUATION) for seed in order}
    found = run_all(evaluation, data, execution=execution, numerics="native", unit="images")
    return {seed: found[f"{seed}"] for seed in SEEDS}


@pytest.mark.parametrize("variant", ["dae", "cvae"])
def test_weights_and_metrics_are_bit_identical_with_1_2_or_4_workers_in_any_order(
    variant: str, digits_file: Path, tmp_path: Path
) -> None:
    shapes = {"one": (1, SEEDS), "two": (2, (3, 1, 0, 2)), "four": (4, (2, 3, 1, 0))}
    one, *others = (
        results(digits_file, tmp_path / name, variant, workers, order) for name, (workers, order) in shapes.items()
    )
    for other in others:
        for seed in SEEDS:
            assert other[seed].weights_sha256 == one[seed].weights_sha256
            assert other[seed].metrics == one[seed].metrics
            assert other[seed].npz() == one[seed].npz()
    assert len({run.weights_sha256 for run in one.values()}) == len(SEEDS)
