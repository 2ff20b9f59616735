"""log p(x) between an upper and a lower bound, on models whose log p(x) is known."""

from collections.abc import Callable

import pytest
import torch
from conftest import tiny
from oracles import BernoulliDecoder, LinearGaussian
from test_annealing import Labelled, bad
from test_generative import Flow
from torch import Tensor

from aebench.config import Evaluation
from aebench.evaluation import bounds
from aebench.evaluation.bounds import bound_gaps
from aebench.evaluation.marginal import Marginal
from aebench.models.generative import GenerativeModel


def settings(proposal: str, samples: int, images: int = 400) -> Evaluation:
    return Evaluation(
        **{"corruption": "masking", "corruption_rate": 0.3, "proposal": proposal},  # type: ignore[arg-type]
        importance_samples=samples,
        bound_gap_images=images,
    )


def all_simulated(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Filled with the images `[B, D]` that are simulated from now on."""
    found: list[Tensor] = []
    simulate: Callable[..., tuple[Tensor, Tensor | None, Tensor]] = bounds._simulated

    def kept(*arguments: object) -> tuple[Tensor, Tensor | None, Tensor]:
        drawn = simulate(*arguments)
        found.append(drawn[2])
        return drawn

    monkeypatch.setattr(bounds, "_simulated", kept)
    return found


def test_with_the_exact_posterior_both_bounds_are_the_truth() -> None:
    gaps = bound_gaps(LinearGaussian(), settings("amortised", 10), 0)
    assert gaps.shape == (400,)
    assert gaps.abs().max() < 1e-9


@pytest.mark.parametrize(
    "model",
    [
        LinearGaussian(),
        Labelled("prior"),
        Labelled("posterior", "likelihood"),
        Labelled("prior", "posterior", "likelihood"),
    ],
)
def test_with_laplaces_proposal_they_close_on_it(model: GenerativeModel) -> None:
    assert bound_gaps(model, settings("laplace", 200), 0).mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("samples", [2, 20])
def test_the_truth_lies_between_them(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a proposal that is not the posterior, so that there is something between them."""
    model, seen = LinearGaussian(bad), []

    def bound(log_weights: Tensor) -> Tensor:
        seen.append(torch.logsumexp(log_weights, 0) - torch.log(torch.tensor(float(len(log_weights)))))
        return seen[-1]

    monkeypatch.setattr(bounds, "importance_weighted_bound", bound)
    simulated = all_simulated(monkeypatch)
    gaps = bound_gaps(model, settings("amortised", samples, 2000), 0)
    exact = torch.tensor([model.log_likelihood(image) for image in torch.cat(simulated).split(1)])
    upper, lower = torch.cat(seen[::2]), torch.cat(seen[1::2])
    assert (upper - exact).mean() > 0.2
    assert (exact - lower).mean() > 0.2
    torch.testing.assert_close(gaps, upper - lower)


def test_simulated_images_are_drawn_from_the_model_and_no_group_repeats_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not the means of p(x|z): of these z* is no sample of the posterior."""
    model, simulated = LinearGaussian(), all_simulated(monkeypatch)
    bound_gaps(model, settings("amortised", 2, 4000), 0)
    x = torch.cat(simulated)
    assert len(simulated) > 1
    assert len({tuple(image) for image in x.tolist()}) == 4000
    covariance = model.weights @ model.weights.T + model.variance * torch.eye(5, dtype=torch.float64)
    deviations = (x.T.cov() - covariance) / (covariance.diagonal().outer(covariance.diagonal()) * 2 / 4000).sqrt()
    assert deviations.abs().max() < 4


def test_labels_of_the_upper_bound_are_drawn_independently_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any one of the samples could be z*, which it could not be of a systematic sample."""
    asked: list[bool] = []
    estimate: Callable[..., object] = Marginal.estimate

    def spy(self: Marginal, *arguments: object, independent_labels: bool = False, **others: object) -> object:
        asked.append(independent_labels)
        return estimate(self, *arguments, independent_labels=independent_labels, **others)

    monkeypatch.setattr(Marginal, "estimate", spy)
    bound_gaps(Labelled("posterior", "likelihood"), settings("laplace", 20, 50), 0)
    assert asked
    assert all(asked)


def test_more_samples_narrow_the_gap() -> None:
    few, many = (bound_gaps(BernoulliDecoder(2), settings("amortised", k), 0).mean() for k in (3, 300))
    assert 0 <= many < 0.3 * few


def test_a_run_draws_its_own_images_and_always_the_same() -> None:
    model = BernoulliDecoder(2)
    assert torch.equal(bound_gaps(model, settings("amortised", 5), 0), bound_gaps(model, settings("amortised", 5), 0))
    assert not torch.equal(
        bound_gaps(model, settings("amortised", 5), 0), bound_gaps(model, settings("amortised", 5), 1)
    )


def test_a_posterior_that_scores_only_its_own_samples_is_said_to() -> None:
    with pytest.raises(TypeError, match="has no density at a point that it did not draw"):
        bound_gaps(Flow(), settings("amortised", 5), 0)
    assert bound_gaps(Flow(), settings("laplace", 200), 0).mean().item() == pytest.approx(0, abs=0.02)


def test_every_proposal_has_one() -> None:
    for proposal in ("laplace", "refined", "amortised"):
        gaps = bound_gaps(tiny("vae").requires_grad_(False), settings(proposal, 100, 60), 0)  # type: ignore[arg-type]
        assert -0.02 <= gaps.mean().item() < 0.1


@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_variants_with_labels_have_one(conditioning: str) -> None:
    model = tiny("cvae", conditioning=conditioning).requires_grad_(False)
    gaps = bound_gaps(model, settings("laplace", 100, 60), 0)  # type: ignore[arg-type]
    assert gaps.shape == (60,)
    assert 0 <= gaps.mean().item() < 0.1
