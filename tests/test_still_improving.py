"""A run that was still improving when its training ended: the rule, the figures, the mark and the caution."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, protocol, tiny
from test_evaluate import EVALUATION, config, small

from aebench.data.datasets import Splits
from aebench.errors import TrainingError
from aebench.evaluation import cell as evaluations
from aebench.evaluation.context import Context
from aebench.evaluation.evaluate import Evaluated
from aebench.evaluation.history import read_history
from aebench.evaluation.metrics import training
from aebench.evaluation.metrics.training import still_improving
from aebench.paths import Layout
from aebench.reporting import exports, findings, results, tables
from aebench.store import Store
from aebench.training.run import train_run
from aebench.training.settings import read_params
from aebench.training.trained_run import StoredRun, read_run

FALLING = [1 / epoch for epoch in range(1, 51)]


def lowest_at(epoch: int, epochs: int) -> list[float]:
    """Losses that fall to their lowest in an epoch, and rise after it."""
    return [abs(each - epoch) + 1.0 for each in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("losses", "epochs", "expected"),
    [
        pytest.param(FALLING, 50, True, id="as after a cosine that ends at zero"),
        pytest.param(FALLING, 51, False, id="ended by a rule"),
        pytest.param(lowest_at(46, 50), 50, True, id="in the last tenth"),
        pytest.param(lowest_at(45, 50), 50, False, id="an epoch before the last tenth"),
        pytest.param(lowest_at(20, 50), 50, False, id="overfitted"),
        pytest.param(lowest_at(20, 25), 50, False, id="ended by its patience"),
        pytest.param(lowest_at(98, 100), 300, False, id="ended by its patience, in the last tenth"),
        pytest.param(lowest_at(5, 5), 5, True, id="few epochs: the last one"),
        pytest.param(lowest_at(4, 5), 5, False, id="few epochs: the one before"),
        pytest.param([1.0], 1, True, id="one epoch"),
        pytest.param([2.0, *[1.0] * 19], 20, False, id="as low before"),
    ],
)
def test_the_rule(losses: list[float], epochs: int, expected: bool) -> None:
    assert still_improving(losses, epochs) is expected


def context(digits: Splits, *history: dict[str, float]) -> Context:
    return Context(tiny("ae"), digits, EVALUATION, 0, print, history=history, epochs=len(history))


def test_what_there_is_no_history_of_is_not_defined(digits: Splits) -> None:
    assert training.not_defined(context(digits)).keys() == {"epochs_trained", "still_improving"}
    without_split = context(digits, {"train_loss": 2.0}, {"train_loss": 1.0})
    assert training.not_defined(without_split) == {
        "still_improving": "has no validation split, on which it would be seen"
    }
    assert training.measure(without_split).of_run == {"epochs_trained": 2.0}
    both = [{"train_loss": 1.0, "validation_loss": loss} for loss in lowest_at(2, 3)]
    assert training.not_defined(context(digits, *both)) == {}
    assert training.measure(context(digits, *both)).of_run == {"epochs_trained": 3.0, "still_improving": 0.0}


@pytest.mark.parametrize(("patience", "improving"), [(None, 1.0), (1, 0.0)])
def test_a_runs_history_reaches_its_figures(
    digits_file: Path, tmp_path: Path, patience: int | None, improving: float
) -> None:
    """As the stage does it. A rate far too large ends soon for want of patience."""
    rate, epochs = (1e-3, 3) if patience is None else (0.3, 60)
    settings = config("ae").model_copy(
        update={
            "training": protocol(
                epochs=epochs, batch_size=64, learning_rate=rate, select="best_validation", patience=patience
            )
        }
    )
    data = small(digits_file, tmp_path / "data.safetensors", 30)
    train_run(settings, "digits", 0, data, lambda *_: None).write(tmp_path / "run")
    run = read_run(tmp_path / "run")
    with (tmp_path / "run" / "history.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [str(row["validation_loss"]) for row in read_history(run)] == [row["validation_loss"] for row in rows]

    work, cache = evaluations.jobs({0: run}, EVALUATION, "digits", "data", "code", Store(tmp_path / "store", 0))
    (job,) = work.values()
    found = job(data, lambda *_: None)
    assert isinstance(found, Evaluated)
    assert found.metrics["epochs_trained"] == len(rows)
    assert found.metrics["still_improving"] == improving
    assert (len(rows) < epochs) == (patience is not None)
    (known_by,) = cache.keys.values()
    (tmp_path / "run" / "history.csv").write_text("epoch,train_loss\n1,2.0\n")
    (other,) = evaluations.jobs({0: run}, EVALUATION, "digits", "data", "code", Store(tmp_path / "store", 0))[
        1
    ].keys.values()
    assert other != known_by


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "history.csv is missing; run its train stage"),
        (b"epoch,train_loss\n1,much\n", "history.csv is damaged"),
        (b"epoch,train_loss\n1\n", "history.csv is damaged"),
        (b"epoch,train_loss\n1,2,3\n", "history.csv is damaged"),
        (b"\xff\xfe", "history.csv is damaged"),
    ],
)
def test_a_history_that_is_missing_or_damaged(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        read_history(StoredRun(str(tmp_path), b"", {}))


def committed(**improving: float) -> results.Results:
    """The committed results, with these shares of the runs still improving, by variant."""
    found = results.load(read_params(ROOT / "params.yaml"), Layout(ROOT))
    cells = []
    for cell in found.cells:
        summary = {name: value for name, value in cell.metrics["summary"].items() if name != "still_improving"}
        if cell.variant in improving:
            summary["still_improving"] = {"mean": improving[cell.variant], "sd": 0.0, "ci95": (0.0, 0.0)}
        cells.append(replace(cell, metrics=cell.metrics | {"summary": summary}))
    return replace(found, cells=tuple(cells))


def test_the_tables_mark_the_variant_and_say_what_the_mark_means() -> None:
    def shown(**improving: float) -> tuple[dict[str, str], str, str]:
        found = committed(**improving)
        nobody: Any = {dataset: {} for dataset, _ in found.datasets()}
        markdown = tables.markdown(found, {dataset: [] for dataset in nobody}, nobody)
        marks = dict(re.findall(r"^\| \*\*(\w+)\*\*(.*?) \|", markdown, re.MULTILINE))
        return marks, markdown, exports.latex(found, nobody)

    marks, markdown, tex = shown(vae=1.0, cvae=0.25, dae=0.0)
    unmarked = {"ae": "", "dae": "", "vae_vampprior": "", "cvae_learned_prior": " †"}
    assert marks == unmarked | {"vae": " ‡", "cvae": " †‡"}
    assert len(re.findall("^- ‡ still improving", markdown, re.MULTILINE)) == 1
    assert r"vae$^{\ddagger{}}$ &" in tex
    assert r"cvae$^{\dagger{}\ddagger{}}$ &" in tex
    marks, markdown, tex = shown(vae=0.0)
    assert "‡" not in markdown
    assert "ddagger" not in tex


@dataclass(frozen=True)
class FakeCell:
    variant: str
    still_improving: float
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    failed: Mapping[int, str] = field(default_factory=dict)
    metrics: Any = None

    def __post_init__(self) -> None:
        protocol = {"network": {"latent_dim": 2}, "evaluation": {}}
        object.__setattr__(self, "metrics", {"summary": {}, "protocol": protocol})


def test_one_caution_names_all_variants() -> None:
    def cautions(**improving: float) -> list[str]:
        return findings.warnings([FakeCell(variant, share) for variant, share in improving.items()])  # type: ignore[misc]

    assert cautions(ae=0.0, vae=0.0) == []
    (some,) = cautions(ae=1.0, dae=0.0, vae=0.75)
    assert some.startswith("Still improving when training ended: ae, vae (3 of 4 seeds). The comparison is one at")
    (every,) = cautions(ae=1.0, vae=1.0)
    assert every.startswith("Every run was still improving when its training ended. The comparison is one at")


def test_a_variant_of_which_all_runs_failed_was_not_still_improving() -> None:
    cells = [FakeCell("vae", 1.0), FakeCell("ae", 0.0, seeds=(), failed={0: "train_loss is nan"})]
    failed, improving = findings.warnings(cells)  # type: ignore[arg-type]
    assert failed.startswith("ae: all of 1 runs failed")
    assert improving.startswith("Every run that did not fail was still improving when its training ended.")
