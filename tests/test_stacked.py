"""Several runs as one computation: what each of them sees and gives is what it would be alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import protocol, tiny
from test_train import config, silent
from test_variants import OTHERS, SETTINGS

from aebench import load_run
from aebench.config import Training
from aebench.data.datasets import Split, Splits
from aebench.models.autoencoder import Autoencoder, Noise
from aebench.paths import Layout
from aebench.store import Store
from aebench.training.cell import jobs
from aebench.training.run import train_run, train_runs
from aebench.training.schedules.plateau import Config as Plateau
from aebench.training.stacked import train_stacked
from aebench.training.train import History, train

SEEDS = (0, 1, 2)
CPU = torch.device("cpu")
TWO_EPOCHS = protocol(epochs=2, batch_size=50, learning_rate=1e-3, select="best_validation")
Make = Callable[[int], Autoencoder]


@dataclass(frozen=True)
class Double(Split):
    """Pixels in double precision, where rounding is nine digits smaller than in single."""

    def pixels(self, index: torch.Tensor | slice, generator: torch.Generator | None = None) -> torch.Tensor:
        return super().pixels(index, generator).double()


def as_double(split: Split) -> Double:
    return Double(split.images, split.labels, split.dynamic_binarization)


def beside_alone(
    make: Make, data: Split, validation: Split, settings: Training = TWO_EPOCHS
) -> list[tuple[tuple[Autoencoder, History], tuple[Autoencoder, History]]]:
    """For each seed what it gives among the others, and alone."""
    together, alone = ([make(seed) for seed in SEEDS] for _ in range(2))
    found = train_stacked(together, data, validation, settings, SEEDS, CPU)
    histories = [train(model, data, validation, settings, seed) for model, seed in zip(alone, SEEDS, strict=True)]
    return list(zip(zip(together, found, strict=True), zip(alone, histories, strict=True), strict=True))


def assert_alike(together: tuple[Autoencoder, object], alone: tuple[Autoencoder, History], rtol: float) -> None:
    (model, found), (oracle, history) = together, alone
    assert isinstance(found, History)
    assert found.selected_epoch == history.selected_epoch
    assert len(found.seconds) == len(history.epochs)
    for row, expected in zip(found.epochs, history.epochs, strict=True):
        assert row == pytest.approx(expected, rel=rtol, abs=rtol * 1e-3)
    for (name, weight), expected in zip(model.state_dict().items(), oracle.state_dict().values(), strict=True):
        # Adam divides by the size of a gradient: a weight with next to none moves by what rounding makes of it.
        torch.testing.assert_close(weight, expected, rtol=rtol, atol=50 * rtol, msg=name)
    assert not model.training


@pytest.mark.parametrize("name", SETTINGS)
def test_every_variant_learns_among_others_what_it_learns_alone(name: str, digits: Splits) -> None:
    pairs = beside_alone(lambda seed: tiny(seed=seed, **SETTINGS[name]), digits.train, digits.validation)  # type: ignore[arg-type]
    for together, alone in pairs:
        assert_alike(together, alone, rtol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_differs_is_rounding(name: str, digits: Splits) -> None:
    def make(seed: int) -> Autoencoder:
        return tiny(seed=seed, **SETTINGS[name]).double()  # type: ignore[arg-type]

    for together, alone in beside_alone(make, as_double(digits.train), as_double(digits.validation)):
        assert_alike(together, alone, rtol=1e-11)


@pytest.mark.parametrize("name", OTHERS)
def test_so_does_every_kind_with_every_network(name: str, digits: Splits) -> None:
    def make(seed: int) -> Autoencoder:
        return tiny(seed=seed, **OTHERS[name]).double()  # type: ignore[arg-type]

    few = as_double(Split(digits.train.images[:21], digits.train.labels[:21]))  # the last batch is of one image
    for together, alone in beside_alone(make, few, few, TWO_EPOCHS.model_copy(update={"epochs": 1, "batch_size": 10})):
        assert_alike(together, alone, rtol=1e-11)


def test_the_weight_of_the_divergence_rises_as_alone(digits: Splits) -> None:
    for together, alone in beside_alone(
        lambda seed: tiny("vae", seed=seed, beta=3.0, beta_warmup_epochs=2), digits.train, digits.validation
    ):
        assert_alike(together, alone, rtol=1e-4)


def test_pixels_that_are_drawn_anew_are_drawn_for_each_run_as_alone(digits: Splits) -> None:
    dynamic = Split(digits.train.images, digits.train.labels, dynamic_binarization=True)
    for together, alone in beside_alone(lambda seed: tiny("vae", seed=seed), dynamic, digits.validation):
        assert_alike(together, alone, rtol=1e-4)


def test_each_run_keeps_its_own_best_epoch(digits: Splits) -> None:
    # So large a step makes the losses go up and down, and those of the runs not alike.
    settings = protocol(epochs=8, batch_size=200, learning_rate=0.3, select="best_validation")
    pairs = beside_alone(
        lambda seed: tiny("ae", seed=seed).double(), as_double(digits.train), as_double(digits.validation), settings
    )
    for together, alone in pairs:
        assert_alike(together, alone, rtol=1e-6)
    assert len({history.selected_epoch for _, (_, history) in pairs}) > 1


def test_each_run_has_its_own_rate_where_the_losses_decide_on_it(digits: Splits) -> None:
    settings = protocol(
        epochs=8, batch_size=200, learning_rate=0.3, select="last", schedule="plateau", plateau_epochs=1
    )
    pairs = beside_alone(
        lambda seed: tiny("ae", seed=seed).double(), as_double(digits.train), as_double(digits.validation), settings
    )
    for together, alone in pairs:
        assert_alike(together, alone, rtol=1e-6)
    losses = [[row["validation_loss"] for row in history.epochs[:-1]] for _, (_, history) in pairs]
    assert len({Plateau(plateau_epochs=1).share_of_epoch(of_run, 0) for of_run in losses}) > 1


def test_the_last_epoch_is_kept_where_that_is_asked_for_also_without_validation(digits: Splits) -> None:
    empty = Split(digits.test.images[:0], digits.test.labels[:0])
    settings = TWO_EPOCHS.model_copy(update={"select": "last"})
    for together, alone in beside_alone(lambda seed: tiny("vae", seed=seed), digits.train, empty, settings):
        assert_alike(together, alone, rtol=1e-4)


def test_frozen_weights_stay_as_they_are(digits: Splits) -> None:
    def make(seed: int) -> Autoencoder:
        model = tiny("vae", seed=seed)
        model.encoder[0].weight.requires_grad_(False)  # type: ignore[union-attr,index]
        return model

    for together, alone in beside_alone(make, digits.train, digits.validation):
        assert_alike(together, alone, rtol=1e-4)
        assert torch.equal(together[0].encoder[0].weight, alone[0].encoder[0].weight)  # type: ignore[union-attr,index]


def test_a_run_that_diverges_stops_nothing_and_changes_nothing(digits: Splits) -> None:
    def models() -> list[Autoencoder]:
        return [tiny("vae", seed=seed) for seed in SEEDS]

    def trained(together: list[Autoencoder]) -> list[History]:
        return train_stacked(together, digits.train, digits.validation, TWO_EPOCHS, SEEDS, CPU)

    healthy, sick = models(), models()
    next(sick[1].parameters()).data[0, 0] = float("nan")
    expected, found = trained(healthy), trained(sick)
    assert found[1].failed.startswith("train_loss is nan in epoch 1; ")
    for place in (0, 2):
        assert expected[place].epochs == found[place].epochs
        weights = zip(healthy[place].state_dict().values(), sick[place].state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in weights)


def test_a_loss_that_draws_by_itself_is_refused(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("ae")
    inner = type(model).loss

    def impure(
        self: Autoencoder, x: torch.Tensor, y: torch.Tensor, noise: Noise, *, epoch: int | None
    ) -> dict[str, torch.Tensor]:
        return inner(self, x + torch.randn_like(x), y, noise, epoch=epoch)

    monkeypatch.setattr(type(model), "loss", impure)
    with pytest.raises(RuntimeError, match="random"):
        train_stacked([model], digits.train, digits.validation, TWO_EPOCHS, [0], CPU)


def test_a_cell_gives_the_files_that_its_runs_alone_give(digits_file: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int, str]] = []
    found = train_runs(
        config("cvae"), "digits", SEEDS, digits_file, lambda *report: reports.append(report), stacked=True
    )
    assert [(done, total) for done, total, _ in reports] == [(1, 2), (2, 2)]
    assert all(words.startswith("loss: train ") for _, _, words in reports)
    for seed, together in zip(SEEDS, found, strict=True):
        alone = train_run(config("cvae"), "digits", seed, digits_file, silent)
        assert together.files["config.json"] == alone.files["config.json"]
        assert set(together.runtime()) == set(alone.runtime())
        rows = [files["history.csv"].decode().splitlines() for files in (together.files, alone.files)]
        assert rows[0][0] == rows[1][0]
        for ours, theirs in zip(*rows, strict=True):
            if ours != rows[0][0]:
                assert [*map(float, ours.split(","))] == pytest.approx([*map(float, theirs.split(","))], rel=1e-4)
        together.write(tmp_path / f"{seed}")
        alone.write(tmp_path / f"{seed} alone")
        x = torch.rand(5, 64)
        models = (load_run(tmp_path / name) for name in (f"{seed}", f"{seed} alone"))
        torch.testing.assert_close(*(model.reconstruct(x) for model in models), rtol=1e-3, atol=1e-3)


def test_a_gpu_trains_all_seeds_in_one_job_and_the_cpu_each_in_its_own(tmp_path: Path) -> None:
    def names(device: str) -> tuple[list[str], int]:
        store, own = Store(tmp_path, 1), config("vae").model_copy(update={"device": device})
        work, kept = jobs(own, "digits", "hash", "code", SEEDS, Layout(tmp_path), store, local=True)
        assert list(work) == list(kept.keys)
        return list(work), len(set(kept.keys.values()))

    assert names("cpu") == (["mine seed 0", "mine seed 1", "mine seed 2"], 3)
    assert names("cuda") == (["mine seeds 0, 1, 2"], 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", SETTINGS)
def test_on_a_gpu_every_run_learns_what_it_learns_alone_on_the_cpu(name: str, digits: Splits) -> None:
    def models() -> list[Autoencoder]:
        return [tiny(seed=seed, **SETTINGS[name]).double() for seed in SEEDS]  # type: ignore[arg-type]

    together, alone = models(), models()
    train_data, validation = as_double(digits.train), as_double(digits.validation)
    found = train_stacked(together, train_data, validation, TWO_EPOCHS, SEEDS, torch.device("cuda"))
    for model, history, oracle, seed in zip(together, found, alone, SEEDS, strict=True):
        expected = train(oracle, train_data, validation, TWO_EPOCHS, seed)
        # The card's products are added up in another order: rounding, where each learns what it would alone.
        assert_alike((model.cpu(), history), (oracle, expected), rtol=1e-8)
