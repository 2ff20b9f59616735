"""One contract for every file in training/optimizers/, schedules/ and stopping/; steps against those of torch's own."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from conftest import tiny
from torch import Tensor

from aebench.config import Training
from aebench.data.datasets import Split, Splits
from aebench.errors import ConfigError
from aebench.randomness import generator
from aebench.training.descent import Descent
from aebench.training.norms import clipped
from aebench.training.optimizers import make, optimizers
from aebench.training.optimizers.adam import Adam
from aebench.training.schedules import schedules
from aebench.training.schedules.plateau import Config as Plateau
from aebench.training.settings import parse_training
from aebench.training.stopping import stopping_rules
from aebench.training.train import train

SHAPES: list[tuple[int, ...]] = [(5, 7), (5,), ()]
STEPS = 20


@pytest.fixture(params=sorted(optimizers()))
def config(request: pytest.FixtureRequest) -> Training:
    return protocol(request.param)


def protocol(optimizer: str = "adam", **settings: object) -> Training:
    block = {"epochs": 4, "batch_size": 50, "learning_rate": 3e-3, "select": "last", **optimizers()[optimizer].EXAMPLE}
    return parse_training({"optimizer": optimizer, **block, **settings})


def drawn(count: int, key: str) -> list[list[Tensor]]:
    noise = generator(key)
    return [[torch.randn(shape, generator=noise) for shape in SHAPES] for _ in range(count)]


def test_the_three_optimisers_are_there() -> None:
    assert {"adam", "adamw", "normalised_adam"} <= set(optimizers())


def test_stacked_runs_go_where_each_goes_alone(config: Training) -> None:
    runs, gradients = drawn(3, "weights"), [drawn(3, f"gradients {step}") for step in range(STEPS)]
    together = [torch.stack(parts) for parts in zip(*runs, strict=True)]
    stacked = make(config, together, stacked=True)
    for of_step in gradients:
        stacked.step([torch.stack(parts) for parts in zip(*of_step, strict=True)], 0.01)
    for place, run in enumerate(runs):
        alone = make(config, run, stacked=False)
        for of_step in gradients:
            alone.step(of_step[place], 0.01)
        for mine, ours in zip(run, together, strict=True):
            torch.testing.assert_close(ours[place], mine)


def test_stacked_runs_go_each_its_share_of_a_step(config: Training) -> None:
    """Which is where each goes alone at that share of the learning rate; one whose share is 1 does not notice."""
    runs, gradients = drawn(3, "weights"), [drawn(3, f"gradients {step}") for step in range(STEPS)]
    shares = (1.0, 0.5, 0.125)

    def down(
        parameters: Sequence[Tensor], of_steps: Sequence[Sequence[Tensor]], share: float | Tensor, stacked: bool
    ) -> Sequence[Tensor]:
        weights = [parameter.clone().requires_grad_() for parameter in parameters]
        descent = Descent(config, weights, STEPS, stacked=stacked)
        for number, of_step in enumerate(of_steps):
            loss = torch.stack([(weight * gradient).sum() for weight, gradient in zip(weights, of_step, strict=True)])
            descent.step(loss.sum(), number, share)
        return weights

    def stack(of_runs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [torch.stack(parts) for parts in zip(*of_runs, strict=True)]

    together, whole = (
        down(stack(runs), [stack(of_step) for of_step in gradients], share, stacked=True)
        for share in (torch.tensor(shares), 1.0)
    )
    assert all(torch.equal(ours[0], mine[0]) for ours, mine in zip(together, whole, strict=True))
    for place, (run, share) in enumerate(zip(runs, shares, strict=True)):
        alone = down(run, [of_step[place] for of_step in gradients], share, stacked=False)
        for mine, ours in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[place], mine)


def test_its_state_is_all_that_later_steps_depend_on(config: Training) -> None:
    (weights,), gradients = drawn(1, "weights"), drawn(STEPS, "gradients")
    first = make(config, weights, stacked=False)
    for of_step in gradients[:5]:
        first.step(of_step, 0.01)
    copies = [weight.clone() for weight in weights]
    second = make(config, copies, stacked=False)
    for name, value in second.state_dict().items():
        value.copy_(first.state_dict()[name])
    for of_step in gradients[5:]:
        first.step(of_step, 0.01)
        second.step(of_step, 0.01)
    assert all(map(torch.equal, weights, copies))
    assert any(not torch.equal(weight, start) for weight, start in zip(weights, drawn(1, "weights")[0], strict=True))


@pytest.mark.parametrize(
    ("optimizer", "oracle"),
    [
        ("adam", lambda weights: torch.optim.Adam(weights, lr=3e-3, fused=True)),
        ("adamw", lambda weights: torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.1, fused=True)),
    ],
)
def test_it_is_torchs_own_bit_for_bit(
    optimizer: str, oracle: Callable[[Sequence[Tensor]], torch.optim.Optimizer]
) -> None:
    ours = [weight.requires_grad_() for weight in drawn(1, "weights")[0]]
    theirs = [weight.detach().clone().requires_grad_() for weight in ours]
    mine, torchs = make(protocol(optimizer), ours, stacked=False), oracle(theirs)
    for gradients in drawn(STEPS, "gradients"):
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        torchs.step()
        mine.step(gradients, 3e-3)
    assert all(map(torch.equal, ours, theirs))
    assert all(weight.requires_grad for weight in ours)


def test_a_normalised_gradient_has_norm_1_for_each_parameter() -> None:
    ours, theirs = drawn(1, "weights")[0], drawn(1, "weights")[0]
    normalised, adam = make(protocol("normalised_adam"), ours, stacked=False), Adam(theirs)
    for gradients in drawn(STEPS, "gradients"):
        small = [1e-7 * gradient for gradient in gradients]
        normalised.step(small, 0.01)
        adam.step([gradient / (torch.linalg.vector_norm(gradient) + 1e-7) for gradient in small], 0.01)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected)
    still = [torch.zeros(3)]
    make(protocol("normalised_adam"), still, stacked=False).step([torch.zeros(3)], 0.01)
    assert still[0].isfinite().all()


def test_gradients_that_lie_transposed_in_memory_are_read_as_what_they_are() -> None:
    gradient = torch.randn(5, 7, generator=generator("gradient"))
    ours = [torch.ones(5, 7) for _ in range(2)]
    for weight, laid_out in zip(ours, (gradient, gradient.T.contiguous().T), strict=True):
        Adam([weight]).step([laid_out], 0.1)
    assert torch.equal(*ours)


@pytest.mark.parametrize("most", [0.5, 5.0, 500.0])
def test_clipping_is_torchs_own(most: float) -> None:
    (gradients,) = drawn(1, "gradients")
    weights = [torch.zeros_like(gradient) for gradient in gradients]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(weights, most)
    for weight, found in zip(weights, clipped(gradients, most, stacked=False), strict=True):
        torch.testing.assert_close(found, weight.grad)
    other = [3 * gradient for gradient in gradients]
    together = clipped([torch.stack(pair) for pair in zip(gradients, other, strict=True)], most, stacked=True)
    for place, run in enumerate((gradients, other)):
        for found, alone in zip(together, clipped(run, most, stacked=False), strict=True):
            torch.testing.assert_close(found[place], alone)


def rates(**settings: object) -> list[float]:
    descent = Descent(protocol(learning_rate=0.5, **settings), [torch.zeros(1)], 5)
    return [descent.learning_rate(number) for number in range(20)]


def test_schedules() -> None:
    assert rates() == [0.5] * 20
    weight = torch.zeros(1, requires_grad=True)
    oracle = torch.optim.SGD([weight], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(oracle, 20)
    expected = []
    for _ in range(20):
        expected.append(oracle.param_groups[0]["lr"])
        oracle.step()
        cosine.step()
    assert rates(schedule="cosine") == pytest.approx(expected)
    assert rates(warmup_share=0.2) == pytest.approx([0.125, 0.25, 0.375, *[0.5] * 17])
    warm = rates(schedule="cosine", warmup_share=0.2)
    assert warm[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert warm[4:] == pytest.approx([0.25 * (1 + math.cos(math.pi * done / 16)) for done in range(16)])
    assert rates(warmup_share=1) == pytest.approx([0.5 * (number + 1) / 20 for number in range(20)])


@pytest.mark.parametrize("name", sorted(schedules()))
@pytest.mark.parametrize("warmup_epochs", [0, 5])
def test_a_schedule_gives_shares_and_depends_on_what_it_is_given_alone(name: str, warmup_epochs: int) -> None:
    """So it does not matter whether a run was resumed, nor which of several stacked runs asks."""
    schedule = protocol(schedule=name, **schedules()[name].EXAMPLE).schedule
    losses = (torch.randn(40, generator=generator("losses")) - torch.arange(40) / 40).tolist()
    wanted = [schedule.share_of_epoch(losses[:epoch], warmup_epochs) for epoch in range(41)]
    assert [schedule.share_of_epoch(losses[:epoch], warmup_epochs) for epoch in reversed(range(41))] == wanted[::-1]
    of_steps = [schedule.share_of_step(done / 100) for done in range(100)]
    assert all(0 <= share <= 1 for share in wanted + of_steps)
    assert wanted[0] == of_steps[0] == 1  # where nothing is known yet, the whole rate
    if schedule.looks_at_validation() is None:
        assert set(wanted) == {1}


@pytest.mark.parametrize("name", sorted(stopping_rules()))
def test_a_stopping_rule_depends_on_what_it_is_given_alone(name: str) -> None:
    rule = protocol(stopping=name, **stopping_rules()[name].EXAMPLE).stopping
    losses = (torch.randn(40, generator=generator("losses")) - torch.arange(40) / 40).tolist()
    ended = [rule.ends(losses[:epoch], 0) for epoch in range(1, 41)]
    assert [rule.ends(losses[:epoch], 0) for epoch in reversed(range(1, 41))] == ended[::-1]
    if rule.looks_at_validation() is None:
        assert not any(ended)
    assert "\n" not in rule.in_words(losses)


@pytest.mark.parametrize("plateau_epochs", [1, 2, 3, 5])
@pytest.mark.parametrize("warmup_epochs", [0, 12])
def test_a_plateau_is_torchs_own(plateau_epochs: int, warmup_epochs: int) -> None:
    noise, plateau = generator("losses", plateau_epochs), Plateau(plateau_epochs=plateau_epochs)
    for falling in (0.0, 0.05):  # the losses, rounded so that some are alike, pass 0
        wandering = torch.randn(100, generator=noise) - falling * torch.arange(100)
        losses = [round(loss, 1) for loss in wandering.tolist()]
        of_warmup = losses[:warmup_epochs]
        oracle = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            oracle, factor=0.5, patience=plateau_epochs - 1, threshold=0, eps=0
        )
        torchs.best = min(of_warmup, default=math.inf)
        for epoch in range(warmup_epochs + 1, len(losses) + 1):
            torchs.step(losses[epoch - 1])
            assert plateau.share_of_epoch(losses[:epoch], warmup_epochs) == oracle.param_groups[0]["lr"]
        assert plateau.share_of_epoch(of_warmup, warmup_epochs) == 1
        assert plateau.share_of_epoch(losses, warmup_epochs) < 1


def test_training_follows_the_schedule_and_clips(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    step = Adam.step

    def watched(self: Adam, gradients: Sequence[Tensor], learning_rate: float) -> None:
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt().item()
        seen.append((learning_rate, norm))
        step(self, gradients, learning_rate)

    monkeypatch.setattr(Adam, "step", watched)
    settings = protocol(epochs=2, schedule="cosine", gradient_clip=2.0)
    train(tiny("vae"), digits.train, digits.validation, settings, 0)
    steps = 2 * -(-len(digits.train) // 50)
    assert len(seen) == steps
    expected = [3e-3 * 0.5 * (1 + math.cos(math.pi * number / steps)) for number in range(steps)]
    assert [rate for rate, _ in seen] == pytest.approx(expected)
    assert max(norm for _, norm in seen) == pytest.approx(2.0, rel=1e-4)


def test_training_follows_the_plateaus_of_its_validation_loss(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = Adam.step

    def watched(self: Adam, gradients: Sequence[Tensor], learning_rate: float) -> None:
        seen.append(learning_rate)
        step(self, gradients, learning_rate)

    monkeypatch.setattr(Adam, "step", watched)
    settings = protocol(epochs=30, learning_rate=0.1, batch_size=200, schedule="plateau", plateau_epochs=2, patience=6)
    losses = [row["validation_loss"] for row in train(tiny("ae"), digits.train, digits.validation, settings, 0).epochs]
    oracle = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(oracle, factor=0.5, patience=1, threshold=0, eps=0)
    expected = []
    for loss in losses:
        expected += [oracle.param_groups[0]["lr"]] * -(-len(digits.train) // 200)
        torchs.step(loss)
    assert seen == expected
    assert len(set(seen)) > 2
    assert len(losses) == 30 or len(losses) - losses.index(min(losses)) - 1 == 6


def test_training_ends_when_its_patience_does(digits: Splits) -> None:
    # So large a step makes the losses go up and down.
    settings = protocol(epochs=30, learning_rate=0.1, batch_size=200, select="best_validation")
    whole = train(tiny("ae"), digits.train, digits.validation, settings, 0)
    for patience in (1, 2, 3):
        patient = protocol(**settings.model_dump() | {"patience": patience})
        found = train(tiny("ae"), digits.train, digits.validation, patient, 0)
        losses = [row["validation_loss"] for row in whole.epochs]
        expected = next(
            (epoch for epoch in range(1, 31) if epoch - 1 - losses[:epoch].index(min(losses[:epoch])) >= patience), 30
        )
        assert found.epochs == whole.epochs[:expected]
        assert found.selected_epoch == losses[:expected].index(min(losses[:expected])) + 1
    assert len(train(tiny("ae"), digits.train, digits.validation, patient, 0).epochs) < 30  # it does end


def test_a_patience_begins_where_the_warm_up_of_the_objective_ends(digits: Splits) -> None:
    settings = protocol(epochs=30, learning_rate=0.1, batch_size=200, select="best_validation", patience=1)
    model = tiny("vae", beta=50.0, beta_warmup_epochs=12)
    losses = [row["validation_loss"] for row in train(model, digits.train, digits.validation, settings, 0).epochs]
    gains = [epoch for epoch in range(1, len(losses)) if losses[epoch] < min(losses[:epoch])]
    assert len(losses) > 12 > len(gains) + 1  # some of the first epochs were no gain, and training went on
    assert all(losses[epoch] < min(losses[:epoch]) for epoch in range(12, len(losses) - 1))


def test_a_patience_needs_a_finite_number() -> None:
    for value in (0, -1, 2.5, "long"):
        with pytest.raises(ConfigError, match=r"^training\.patience: found"):
            protocol(patience=value)


def test_stacked_runs_stop_each_at_its_own_time(digits: Splits) -> None:
    from aebench.training.stacked import train_stacked

    settings = protocol(epochs=30, learning_rate=0.3, batch_size=200, patience=1, gradient_clip=50.0, warmup_share=0.1)

    class Double(Split):
        def pixels(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Tensor:
            return super().pixels(index, generator).double()

    data, validation = (Double(split.images, split.labels) for split in (digits.train, digits.validation))
    models = [tiny("ae", seed=seed).double() for seed in range(3)]
    together = train_stacked(models, data, validation, settings, range(3), torch.device("cpu"))
    alone = [train(tiny("ae", seed=seed).double(), data, validation, settings, seed) for seed in range(3)]
    assert [len(run.epochs) for run in together] == [len(run.epochs) for run in alone]
    assert len({len(run.epochs) for run in alone}) > 1
    for found, expected in zip(together, alone, strict=True):
        assert found.epochs[-1] == pytest.approx(expected.epochs[-1], rel=1e-6)
