"""A run that goes on from a checkpoint ends as if it had never stopped."""

import math
from pathlib import Path

import pytest
import torch
from conftest import protocol, tiny
from test_train import config, silent

from aebench.randomness import Streams
from aebench.store import Store
from aebench.training.checkpoints import Checkpoints
from aebench.training.optimizers.adam import Adam
from aebench.training.run import train_run, train_runs
from aebench.training.state import Progress, TrainingState

KINDS = {
    "ae": {},
    "dae": {"corruption": "masking", "corruption_rate": 0.3},
    "vae": {"likelihood": "gaussian", "sigma": "learned"},
    "cvae": {"conditioning": "concat"},
}


class Interrupted(Exception):
    pass


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    live = [tmp_path / f"live-{run}.csv" for run in range(3)]
    return Checkpoints(Store(tmp_path / "store", 10**8), "key.checkpoint", interval=0, live=live)


def settings(kind: str, epochs: int = 4, **others: object):  # type: ignore[no-untyped-def]
    own = config(kind, **KINDS[kind], **others)
    return own.model_copy(update={"training": own.training.model_copy(update={"epochs": epochs})})


def until(epoch: int):  # type: ignore[no-untyped-def]
    """A report that breaks the run off after this epoch."""

    def report(done: int, total: int, words: str) -> None:
        if done == epoch:
            raise Interrupted

    return report


@pytest.mark.parametrize("kind", KINDS)
def test_whenever_it_stopped_a_run_ends_the_same(kind: str, digits_file: Path, checkpoints: Checkpoints) -> None:
    whole = train_run(settings(kind), "digits", 0, digits_file, silent)
    seen = []
    for epoch in (1, 2, 3):  # three stops, one after the other
        with pytest.raises(Interrupted):
            train_run(settings(kind), "digits", 0, digits_file, until(epoch), checkpoints=checkpoints)
        assert len(checkpoints.live[0].read_text().splitlines()) == 1 + epoch
    resumed = train_run(
        settings(kind), "digits", 0, digits_file, lambda done, *_: seen.append(done), checkpoints=checkpoints
    )
    assert seen == [4]
    assert resumed.files == whole.files
    assert len(resumed.runtime()["epochs_finished_at"]) == 4


@pytest.mark.parametrize("select", ["best_validation", "last"])
def test_the_best_epoch_before_the_stop_is_remembered(select: str, digits_file: Path, checkpoints: Checkpoints) -> None:
    own = settings("ae", epochs=6)
    own = own.model_copy(update={"training": own.training.model_copy(update={"learning_rate": 0.3, "select": select})})
    whole = train_run(own, "digits", 0, digits_file, silent)
    with pytest.raises(Interrupted):
        train_run(own, "digits", 0, digits_file, until(5), checkpoints=checkpoints)
    assert train_run(own, "digits", 0, digits_file, silent, checkpoints=checkpoints).files == whole.files


@pytest.mark.parametrize("patience", [1, 2])
def test_a_run_stops_where_it_would_have_stopped(patience: int, digits_file: Path, checkpoints: Checkpoints) -> None:
    """Whenever it was broken off, also between its last epoch and its end."""
    own = settings("ae", epochs=30)
    changes = {"learning_rate": 0.3, "patience": patience, "select": "last"}
    own = own.model_copy(update={"training": protocol(**own.training.model_dump() | changes)})
    told: list[int] = []
    whole = train_run(own, "digits", 0, digits_file, lambda done, *_: told.append(done))
    epochs = len(whole.files["history.csv"].splitlines()) - 1
    assert told == list(range(1, epochs + 1))
    assert patience < epochs < 30
    for epoch in range(1, epochs + 1):
        with pytest.raises(Interrupted):
            train_run(own, "digits", 0, digits_file, until(epoch), checkpoints=checkpoints)
    assert train_run(own, "digits", 0, digits_file, silent, checkpoints=checkpoints).files == whole.files


def test_a_halved_rate_stays_halved(digits_file: Path, checkpoints: Checkpoints) -> None:
    own = settings("vae", epochs=12)
    shared = own.training.model_dump() | {"learning_rate": 0.1, "patience": 6}
    constant = own.model_copy(update={"training": protocol(**shared)})
    own = own.model_copy(update={"training": protocol(**shared | {"schedule": "plateau", "plateau_epochs": 1})})
    whole, other = (train_run(each, "digits", 0, digits_file, silent).files for each in (own, constant))
    assert whole["history.csv"] != other["history.csv"]
    epochs = len(whole["history.csv"].splitlines()) - 1
    for epoch in range(1, epochs + 1):
        with pytest.raises(Interrupted):
            train_run(own, "digits", 0, digits_file, until(epoch), checkpoints=checkpoints)
    assert train_run(own, "digits", 0, digits_file, silent, checkpoints=checkpoints).files == whole


BEST = protocol(epochs=9, batch_size=64, learning_rate=0.01, select="best_validation")


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_fails_where_it_goes_on_keeps_its_last_finite_weights(stopped: bool) -> None:
    """Not the best ones, which are older."""

    def begun(seed: int) -> TrainingState:
        model = tiny("ae", seed=seed)
        return TrainingState([(Progress(model), Streams(0))], Adam(list(model.parameters())))

    def end_epoch(state: TrainingState, loss: float) -> bool:
        with torch.no_grad():
            for weight in state.runs[0][0].model.parameters():
                weight += 1
        return state.runs[0][0].end_epoch({"train_loss": loss, "validation_loss": loss}, 1.0, BEST, 64)

    state = begun(0)
    assert end_epoch(state, 1.0)
    assert end_epoch(state, 2.0)
    expected = {name: weight.clone() for name, weight in state.runs[0][0].model.state_dict().items()}
    if stopped:
        packed = state.pack()
        state = begun(1)
        assert state.load_state(packed)
    assert not end_epoch(state, math.nan)
    assert state.runs[0][0].end().selected_epoch == 2
    found = state.runs[0][0].model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_checkpoint_of_another_run_is_not_used(digits_file: Path, checkpoints: Checkpoints) -> None:
    """The store looks at the name alone: what lies under it may be of another shape."""
    with pytest.raises(Interrupted):
        train_run(settings("vae"), "digits", 0, digits_file, until(2), checkpoints=checkpoints)
    whole = train_run(settings("ae"), "digits", 0, digits_file, silent)
    assert train_run(settings("ae"), "digits", 0, digits_file, silent, checkpoints=checkpoints).files == whole.files
    for content in (b"", b"junk", (8).to_bytes(8, "little") + b'{"a": 1}'):
        checkpoints.shelf.put(checkpoints.name, content)
        assert train_run(settings("ae"), "digits", 0, digits_file, silent, checkpoints=checkpoints).files == whole.files


def test_a_clock_that_is_set_back_in_training_leaves_epochs_in_order(
    digits_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(10**9, 0, -1000))
    monkeypatch.setattr("time.time", lambda: float(next(times)))
    runtime = train_run(settings("ae"), "digits", 0, digits_file, silent).runtime()
    in_order = [runtime["started_at"], *runtime["epochs_finished_at"]]
    assert in_order == sorted(in_order)
    assert in_order[-1] - in_order[0] < 100


def test_a_full_disk_does_not_stop_training(
    digits_file: Path, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.shelf.folder.write_bytes(b"no folder can be made here")  # type: ignore[attr-defined]
    whole = train_run(settings("ae"), "digits", 0, digits_file, silent)
    assert train_run(settings("ae"), "digits", 0, digits_file, silent, checkpoints=checkpoints).files == whole.files


def test_runs_that_are_stacked_go_on_together(digits_file: Path, checkpoints: Checkpoints) -> None:
    """Whenever they were broken off, and although one had ended before: it stays ended, and the others go on."""
    own = settings("vae", epochs=30)
    of_adam = {key: value for key, value in own.training.model_dump().items() if key != "epsilon"}
    changes = {"learning_rate": 0.05, "patience": 1, "optimizer": "adamw", "weight_decay": 0.01}
    own = own.model_copy(update={"training": protocol(**of_adam | changes)})
    seeds = (0, 1, 2)
    whole = train_runs(own, "digits", seeds, digits_file, silent, stacked=True)
    lengths = [len(run.files["history.csv"].splitlines()) - 1 for run in whole]
    assert 1 < min(lengths) < max(lengths) < 30
    for epoch in range(1, max(lengths) + 1):
        with pytest.raises(Interrupted):
            train_runs(own, "digits", seeds, digits_file, until(epoch), checkpoints=checkpoints, stacked=True)
    assert len(checkpoints.live[0].read_text().splitlines()) > min(lengths)
    resumed = train_runs(own, "digits", seeds, digits_file, silent, checkpoints=checkpoints, stacked=True)
    assert [run.files for run in resumed] == [run.files for run in whole]
    # What is of another number of runs is not theirs.
    fewer = train_runs(own, "digits", seeds[:2], digits_file, silent, checkpoints=checkpoints, stacked=True)
    assert len(fewer) == 2


@pytest.mark.parametrize("stacked", [False, True])
def test_a_run_goes_on_with_its_exemplars(stacked: bool, digits_file: Path, checkpoints: Checkpoints) -> None:
    own = settings("vae", epochs=3, prior="exemplar", exemplars=8, exemplars_a_step=4)

    def run(report, **how):  # type: ignore[no-untyped-def]
        if stacked:
            return [run.files for run in train_runs(own, "digits", (0, 1), digits_file, report, stacked=True, **how)]
        return [train_run(own, "digits", 0, digits_file, report, **how).files]

    whole = run(silent)
    with pytest.raises(Interrupted):
        run(until(2), checkpoints=checkpoints)
    assert run(silent, checkpoints=checkpoints) == whole


def test_a_state_holds_all_that_changes(digits_file: Path, checkpoints: Checkpoints) -> None:
    """Every tensor of a model in training is in its checkpoint, averages and generators too."""
    states: list[TrainingState] = []
    own = settings("dae")
    keep = Checkpoints.write

    def spy(self: Checkpoints, state: TrainingState) -> None:
        states.append(state)
        keep(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "write", spy)
        train_run(own, "digits", 0, digits_file, silent, checkpoints=checkpoints)
    names = set(states[-1]._tensors())
    weights = set(states[-1].runs[0][0].model.state_dict())
    assert {f"0/{part}/{name}" for part in ("weights", "best") for name in weights} <= names
    assert {f"0/stream/{purpose}" for purpose in ("order", "corruption")} <= names
    assert sum(name.startswith("optimizer/") for name in names) == 3 * len(weights)
    assert torch.is_tensor(states[-1]._tensors()["optimizer/steps/0"])
