import csv
import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import network, protocol, tiny

from aebench import load_run, variants
from aebench.config import Data, Execution, RunConfig
from aebench.data.datasets import Split, Splits
from aebench.errors import TrainingError
from aebench.execution.jobs import run_all
from aebench.models.autoencoder import Autoencoder, Noise
from aebench.training.run import train_run, train_runs
from aebench.training.state import History, Progress
from aebench.training.train import train, validate

TWO_EPOCHS = protocol(epochs=2, batch_size=50, learning_rate=1e-3, select="best_validation")


def config(kind: str, **settings: object) -> RunConfig:
    return RunConfig(
        variant="mine",
        model=variants.configuration({"kind": kind, **settings}),
        network=network(),
        training=TWO_EPOCHS,
        data=Data(validation_fraction=0.1),
        numerics="native",
    )


def silent(*_: object) -> None:
    pass


def test_a_run_is_a_function_of_its_configuration_and_seed(digits_file: Path) -> None:
    first, again, other = (train_run(config("vae"), "digits", seed, digits_file, silent) for seed in (0, 0, 1))
    assert first.files == again.files
    assert first.files["model.safetensors"] != other.files["model.safetensors"]


def test_a_run_does_not_depend_on_how_many_run_beside_it(digits_file: Path) -> None:
    jobs = {str(seed): partial(train_run, config("vae"), "digits", seed) for seed in range(3)}
    alone, two, four = (
        run_all(
            jobs,
            digits_file,
            execution=Execution(workers=workers, source_dir=None),
            numerics="native",
            unit="epochs",
        )
        for workers in (1, 2, 4)
    )
    for beside in (two, four):
        assert [run.files for run in alone.values()] == [run.files for run in beside.values()]


def test_a_trained_run_comes_back_in_one_call(digits_file: Path, digits: Splits, tmp_path: Path) -> None:
    run = train_run(config("dae", corruption="gaussian", corruption_rate=0.1), "digits", 0, digits_file, silent)
    run.write(tmp_path)
    model = load_run(tmp_path)
    assert not model.training
    losses = validate(model, digits.validation, 0)
    last = (tmp_path / "history.csv").read_text().splitlines()[-1].split(",")
    header = (tmp_path / "history.csv").read_text().splitlines()[0].split(",")
    assert losses["reconstruction_mse"] == pytest.approx(float(last[header.index("validation_reconstruction_mse")]))


def test_a_variants_own_settings_come_back_with_it(digits_file: Path, tmp_path: Path) -> None:
    train_run(config("vae", beta=4.0), "digits", 0, digits_file, silent).write(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["beta"] == 4.0
    assert load_run(tmp_path).objective.beta == 4.0  # type: ignore[union-attr]


def test_the_history_has_a_row_an_epoch_and_the_same_columns_for_both_splits(digits_file: Path) -> None:
    run = train_run(config("vae"), "digits", 0, digits_file, silent)
    header, *rows = run.files["history.csv"].decode().splitlines()
    assert [row.split(",")[0] for row in rows] == ["1", "2"]
    parts = ("loss", "distortion_nats", "rate_nats")
    assert header.split(",") == [
        "epoch",
        *(f"train_{part}" for part in parts),
        *(f"validation_{part}" for part in parts),
        "validation_reconstruction_mse",
    ]


def seen(kind: str, digits: Splits, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The order of the labels in which a variant's batches come."""
    order: list[list[int]] = []
    model = tiny(kind)
    inner = type(model).loss

    def spy(self: Autoencoder, x: torch.Tensor, y: torch.Tensor, noise: Noise, *, epoch: int | None) -> object:
        if self.training:
            order.append(y.tolist())
        return inner(self, x, y, noise, epoch=epoch)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "loss", spy)
        train(model, digits.train, digits.validation, TWO_EPOCHS, seed)
    return order


def test_all_variants_see_the_images_in_the_same_order(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = {kind: seen(kind, digits, 0, monkeypatch) for kind in variants.kinds()}
    assert all(order == orders["ae"] for order in orders.values())
    assert orders["ae"] != seen("ae", digits, 1, monkeypatch)
    half = len(orders["ae"]) // 2
    assert orders["ae"][:half] != orders["ae"][half:]  # each epoch has an order of its own
    first_epoch = [label for batch in orders["ae"][:half] for label in batch]
    assert sorted(first_epoch) == sorted(digits.train.labels.tolist())  # and sees every image once


def test_the_best_epoch_by_validation_is_kept(digits: Splits) -> None:
    # So large a step makes the loss go up and down.
    settings = protocol(epochs=8, batch_size=200, learning_rate=0.3, select="best_validation")
    model = tiny("ae")
    history = train(model, digits.train, digits.validation, settings, 0)
    losses = [row["validation_loss"] for row in history.epochs]
    assert losses != sorted(losses, reverse=True)
    assert history.selected_epoch == 1 + losses.index(min(losses))
    assert validate(model, digits.validation, 0)["loss"] == pytest.approx(min(losses))


def test_the_last_epoch_is_kept_where_that_is_asked_for_also_without_validation(digits: Splits) -> None:
    empty = Split(digits.test.images[:0], digits.test.labels[:0])
    settings = TWO_EPOCHS.model_copy(update={"select": "last"})
    model = tiny("vae")
    history = train(model, digits.train, empty, settings, 0)
    assert history.selected_epoch == 2
    assert set(history.epochs[0]) == {"train_loss", "train_distortion_nats", "train_rate_nats"}


def test_training_reduces_the_loss_of_every_variant(digits: Splits) -> None:
    for kind in variants.kinds():
        settings = protocol(epochs=10, batch_size=50, learning_rate=3e-3, select="last")
        history = train(tiny(kind), digits.train, digits.validation, settings, 0)
        assert history.epochs[-1]["validation_loss"] < 0.8 * history.epochs[0]["train_loss"], kind


def test_frozen_weights_stay_as_they_are(digits: Splits) -> None:
    model = tiny("vae")
    frozen = model.encoder[0].weight.requires_grad_(False)  # type: ignore[union-attr,index]
    before, free = frozen.clone(), model.encoder[0].bias.clone()  # type: ignore[union-attr,index]
    train(model, digits.train, digits.validation, TWO_EPOCHS, 0)
    assert torch.equal(frozen, before)
    assert not torch.equal(model.encoder[0].bias, free)  # type: ignore[union-attr,index]


def test_a_loss_that_is_not_finite_ends_the_run_with_what_was_finite(digits: Splits) -> None:
    model = tiny("vae")
    settings = TWO_EPOCHS.model_copy(update={"epochs": 6})
    after_second: dict[str, torch.Tensor] = {}

    def spoil(so_far: History) -> None:
        if len(so_far.epochs) == 2:
            after_second.update({name: weight.clone() for name, weight in model.state_dict().items()})
            next(model.parameters()).data[0, 0] = float("inf")

    history = train(model, digits.train, digits.validation, settings, 3, after_epoch=spoil)
    assert re.match(r"train_\w+ is (nan|inf) in epoch 3; try a smaller training.learning_rate$", history.failed)
    assert len(history.epochs) == history.selected_epoch == 2
    left = model.state_dict()
    spoilt = next(iter(left))
    assert all(bool((left[name] == weight).all()) for name, weight in after_second.items() if name != spoilt)


def test_validation_is_by_the_whole_loss_with_noise_of_the_seed(digits: Splits) -> None:
    """However far a warm-up has come, epochs are judged by the same loss."""
    model = tiny("vae", beta=3.0, beta_warmup_epochs=10)
    history = train(model, digits.train, digits.validation, TWO_EPOCHS, 0)
    for row in history.epochs:
        whole = row["validation_distortion_nats"] + 3 * row["validation_rate_nats"]
        assert row["validation_loss"] == pytest.approx(whole, rel=1e-5)
    assert validate(model, digits.validation, 0) == validate(model, digits.validation, 0)
    assert validate(model, digits.validation, 0)["loss"] != validate(model, digits.validation, 1)["loss"]


def test_a_loss_near_0_may_rise_by_what_is_little_for_an_image() -> None:
    """Of a likelihood with a density, a first loss may happen to be next to nothing."""
    progress = Progress(tiny("vae"))
    for loss in (0.01, 2.0, 60.0):
        assert progress.end_epoch({"train_loss": loss, "validation_loss": loss}, 1.0, TWO_EPOCHS, 64)
    assert not progress.end_epoch({"train_loss": 6500.0, "validation_loss": 6500.0}, 1.0, TWO_EPOCHS, 64)
    assert progress.history.failed.startswith("train_loss has risen from 0.01 to 6500")


@pytest.mark.parametrize("together", [False, True])
def test_progress_says_what_a_patience_waits_for(digits_file: Path, together: bool) -> None:
    settings = config("ae")
    patient = protocol(epochs=3, batch_size=50, learning_rate=1e-3, select="best_validation", patience=2)
    settings = settings.model_copy(update={"training": patient})
    reports: list[str] = []

    def report(_: int, __: int, words: str) -> None:
        reports.append(words)

    if together:
        (run,) = train_runs(settings, "digits", [0], digits_file, report, stacked=True)
    else:
        run = train_run(settings, "digits", 0, digits_file, report)
    rows = [*csv.DictReader(run.files["history.csv"].decode().splitlines())]
    losses = [float(row["validation_loss"]) for row in rows]
    assert len(reports) == len(losses) == 3
    for epoch, words in enumerate(reports, start=1):
        lowest = min(losses[:epoch])
        first = losses.index(lowest) + 1
        assert words.endswith(f"validation {losses[epoch - 1]:.4g}, lowest {lowest:.4g} in epoch {first}, patience 2")


def test_a_loss_that_rises_without_end_has_diverged(digits: Splits) -> None:
    settings = protocol(epochs=5, batch_size=50, learning_rate=1e-3, select="last")

    def enlarge(times: float, model: Autoencoder) -> History:
        def after_epoch(so_far: History) -> None:
            if len(so_far.epochs) == 2:
                model.get_parameter("decoder.2.weight").data.mul_(times)

        return train(model, digits.train, digits.validation, settings, 0, after_epoch=after_epoch)

    assert enlarge(3, tiny("vae")).failed == ""  # worse for a while is no failure
    model = tiny("vae")
    history = enlarge(1e6, model)
    assert re.match(r"train_loss has risen from \S+ to \S+ in epoch 3; try a smaller", history.failed)
    assert len(history.epochs) == history.selected_epoch == 2
    assert all(bool(weight.isfinite().all()) for weight in model.state_dict().values())


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no trained run"):
        load_run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model": {"kind": "vae"}}')
    with pytest.raises(TrainingError, match="does not hold a run of this version"):
        load_run(tmp_path)
