"""Estimators against exact answers."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import ROOT, protocol, tiny
from oracles import BernoulliDecoder, LinearGaussian
from scipy import integrate
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, MultivariateNormal, kl_divergence

from aebench.config import Evaluation
from aebench.data.datasets import Splits, load
from aebench.evaluation import estimators
from aebench.evaluation.estimators import Draws
from aebench.evaluation.likelihoods import likelihoods
from aebench.evaluation.marginal import Budget, Estimate, Marginal, split_budget
from aebench.models.generative import GenerativeModel
from aebench.models.labels import class_log_posterior, inferred_label
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.bernoulli import Bernoulli
from aebench.randomness import generator
from aebench.training.train import train

X = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
GREY = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1]], dtype=torch.float64)


def estimate(model: GenerativeModel, x: Tensor, samples: int, noise: torch.Generator, **settings: object) -> Estimate:
    return Marginal(model).estimate(x, samples, noise, **settings)  # type: ignore[arg-type]


def draws(model: GenerativeModel, x: Tensor, samples: int, *key: int | str) -> Draws:
    return estimate(model, x, samples, generator("test", *key)).marginal


def rate(model: GenerativeModel, x: Tensor, found: Estimate | None = None, label: Tensor | None = None) -> float:
    marginal = Marginal(model)
    found = found or estimate(model, x, 100, generator("rate"), label=label)
    proposal = marginal.amortised(x)
    of_image = marginal.rate(proposal, found) if label is None else marginal.rate_given_label(proposal, found, label)
    return of_image.item()


@pytest.mark.parametrize("samples", [1, 2, 7, 1000])
def test_with_the_exact_posterior_the_estimate_is_exact_at_every_k(samples: int) -> None:
    model = LinearGaussian()
    found = draws(model, GREY, samples)
    assert found.iw_log_likelihood.item() == pytest.approx(model.log_likelihood(GREY), abs=1e-11)
    assert found.log_weights.std(correction=0).item() < 1e-11


def wrong_posterior(x: Tensor) -> Distribution:
    right = LinearGaussian().exact_posterior(x)
    return MultivariateNormal(right.mean + 0.3, 1.5 * torch.diag_embed(right.variance))


def test_elbo_and_divergence_from_the_posterior_add_up_to_the_log_likelihood() -> None:
    model = LinearGaussian(wrong_posterior)
    samples = 200_000
    found = draws(model, GREY, samples)
    divergence = kl_divergence(wrong_posterior(GREY), model.exact_posterior(GREY)).item()
    bound = -found.distortion.item() - rate(model, GREY)
    assert divergence > 0.3
    assert bound + divergence == pytest.approx(model.log_likelihood(GREY), abs=0.03)
    # log w has the same mean, and tells the Monte-Carlo error.
    error = found.log_weights.std().item() / math.sqrt(samples)
    assert found.log_weights.mean().item() + divergence == pytest.approx(model.log_likelihood(GREY), abs=5 * error)


def test_with_a_wrong_posterior_the_estimate_rises_to_the_log_likelihood_from_below() -> None:
    model = LinearGaussian(wrong_posterior)
    exact = model.log_likelihood(GREY)
    means = []
    for samples, repeats in ((1, 4000), (10, 2000), (100, 500)):
        values = torch.tensor(
            [draws(model, GREY, samples, samples, i).iw_log_likelihood.item() for i in range(repeats)]
        )
        means.append(values.mean().item())
        assert means[-1] < exact + 3 * values.std().item() / math.sqrt(repeats)
    assert means[0] < means[1] - 0.1 < means[2] - 0.1
    weights = draws(model, GREY, 200_000).log_weights
    relative_error = (weights - exact).exp().std().item() / math.sqrt(200_000)
    assert draws(model, GREY, 200_000).iw_log_likelihood.item() == pytest.approx(exact, abs=5 * relative_error)


@pytest.mark.parametrize("latents", [1, 2])
def test_a_bernoulli_decoder_against_quadrature(latents: int) -> None:
    model = BernoulliDecoder(latents)
    exact = model.log_likelihood(X)
    many = draws(model, X, 200_000)
    error = (many.log_weights - exact).exp().std().item() / math.sqrt(200_000)
    assert error < 0.01
    assert many.iw_log_likelihood.item() == pytest.approx(exact, abs=4 * error)
    few = torch.tensor([draws(model, X, 3, i).iw_log_likelihood.item() for i in range(300)])
    assert few.mean().item() < exact - 3 * few.std().item() / math.sqrt(300)  # visibly a lower bound at K = 3


class LaplaceProposal(BernoulliDecoder):
    """A proposal that is not Gaussian, and correlated neither."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Laplace(torch.full((len(x), 2), 0.4), torch.full((len(x), 2), 0.8)), 1)


class GivenLabel(LaplaceProposal):
    """The same with two labels that change nothing, so that the marginal is what it was."""

    conditional_parts = frozenset({"posterior", "likelihood"})
    log_class_shares = torch.tensor([0.3, 0.7]).log()


@pytest.mark.parametrize("model", [LaplaceProposal(2), GivenLabel(2)], ids=["no label", "label"])
def test_any_distribution_will_do_for_a_proposal(model: BernoulliDecoder) -> None:
    exact = model.log_likelihood(X)
    many = draws(model, X, 100_000)
    error = (many.log_weights - exact).exp().std().item() / math.sqrt(100_000)
    assert many.iw_log_likelihood.item() == pytest.approx(exact, abs=4 * error)
    z = torch.randn(5, 1, 2, generator=generator("z"))
    q = Marginal(model).amortised(X).given(torch.tensor([[1]]))
    assert isinstance(q, Distribution)
    torch.testing.assert_close(q.log_prob(z), model.posterior(X).log_prob(z))


def test_distortion_and_rate_by_quadrature() -> None:
    model = BernoulliDecoder(1)
    q = model.posterior(X)

    def distortion(z: float) -> float:
        point = torch.tensor([[z]])
        density = math.exp(q.log_prob(point).item())
        return -density * (model.log_joint(X, z) - model.prior().log_prob(point).item())

    found = draws(model, X, 50_000)
    assert found.distortion.item() == pytest.approx(integrate.quad(distortion, -10, 10)[0], abs=0.02)
    mean, variance = 0.4, math.exp(-0.2)
    its_rate = rate(model, X)
    assert its_rate == pytest.approx(0.5 * (mean**2 + variance - math.log(variance) - 1), abs=1e-5)


@pytest.mark.parametrize("samples", [1, 7, 97, 1000, 1024, 1031])
def test_exactly_k_samples_are_used_and_they_are_the_first_of_the_images_generator(samples: int) -> None:
    """The estimate is that of K weights computed by hand, for K prime as well."""
    model = BernoulliDecoder(1)
    found = estimate(model, X, samples, generator("noise")).marginal
    assert len(found.log_weights) == samples
    noise = torch.randn(2048, 1, 1, generator=generator("noise"))[:samples]
    q = model.posterior(X)
    z = q.mean + q.stddev * noise
    log_weights = model.likelihood(z).log_prob(X) + model.prior().log_prob(z) - q.log_prob(z)
    by_hand = torch.logsumexp(log_weights.double(), 0).item() - math.log(samples)
    assert found.iw_log_likelihood.item() == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(("kind", "conditioning"), [("vae", ""), ("cvae", "class_prior"), ("cvae", "concat")])
class TestEveryModel:
    """What holds of every kind of conditioning, on a tiny model with random weights."""

    @pytest.fixture
    def model(self, kind: str, conditioning: str, digits_file: Path) -> LatentVariableModel:
        return trained(digits_file, kind, conditioning)

    def test_the_value_does_not_depend_on_the_chunk(
        self, model: LatentVariableModel, digits: Splits, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (x,) = some_images(digits, 1)
        found = []
        for chunk in (32, 128, 1024):
            monkeypatch.setattr(estimators, "CHUNK", chunk)
            found.append(estimate(model, x, 1000, generator("noise")).marginal)
        for other in found[1:]:
            torch.testing.assert_close(other.log_weights, found[0].log_weights, atol=1e-4, rtol=0)

    def test_an_image_is_estimated_without_a_look_at_those_beside_it(
        self, model: LatentVariableModel, digits: Splits
    ) -> None:
        config = Evaluation(corruption="masking", corruption_rate=0.3, importance_samples=60)
        test = replace(digits.test, images=digits.test.images[:5], labels=digits.test.labels[:5])
        others = replace(test, images=test.images.flip(0), labels=test.labels.flip(0))  # the third stays in its place
        found, _ = likelihoods(model, test, config, 0, lambda *_: None)
        flipped, _ = likelihoods(model, others, config, 0, lambda *_: None)
        alone, _ = likelihoods(model, replace(test, images=test.images[:1], labels=test.labels[:1]), config, 0, print)
        for name, values in found.items():
            assert values[2] == flipped[name][2]
            assert values[0] == alone[name][0]

    def test_the_elbo_of_many_images_is_that_of_each(self, model: LatentVariableModel, digits: Splits) -> None:
        x, marginal = digits.test.pixels(slice(0, 4)), Marginal(model)
        budget = Budget(split_budget(1000, marginal.classes).pilot, 4000)
        together = marginal.elbo(x, budget, generator("together"))
        assert together.shape == (4,)
        for image, value in zip(x.split(1), together, strict=True):
            found = estimate(model, image, 4000, generator("alone"))
            assert -found.marginal.distortion.item() - rate(model, image, found) == pytest.approx(
                value.item(), abs=0.25
            )

    def test_a_group_is_estimated_as_its_images_are(self, model: LatentVariableModel, digits: Splits) -> None:
        """Its labels differ, so that the images need different numbers of fresh samples given them."""
        x, label = digits.test.pixels(slice(0, 4)), digits.test.labels[:4] if model.conditional_parts else None
        samples, marginal = 4000, Marginal(model)
        proposal = marginal.amortised(x)
        group = marginal.estimate(x, samples, generator("group"), proposal=proposal, label=label)
        group_rates = marginal.rate(proposal, group)
        given_rates = None if label is None else marginal.rate_given_label(proposal, group, label)
        for place, image in enumerate(x.split(1)):
            of_image = None if label is None else label[place : place + 1]
            alone = estimate(model, image, samples, generator("alone", place), label=of_image)
            assert group_rates[place].item() == pytest.approx(rate(model, image, alone), rel=1e-4)
            for ours, theirs in ((group.marginal, alone.marginal), (group.given_label, alone.given_label)):
                if ours is None or theirs is None:
                    assert ours is theirs
                    continue
                assert ours.log_weights[:, place].shape == theirs.log_weights[:, 0].shape
                assert ours.iw_log_likelihood[place].item() == pytest.approx(theirs.iw_log_likelihood.item(), abs=0.1)
                assert ours.distortion[place].item() == pytest.approx(theirs.distortion.item(), abs=0.25)
            if of_image is not None:
                assert group.given_label is not None
                assert given_rates is not None
                assert len(group.given_label.log_weights) == samples
                assert given_rates[place].item() == pytest.approx(rate(model, image, alone, of_image), rel=1e-4)

    def test_the_label_leaves_the_marginal_as_it_is(self, model: LatentVariableModel, digits: Splits) -> None:
        (x,) = some_images(digits, 1)
        without = estimate(model, x, 300, generator("noise")).marginal
        for label in torch.arange(10).split(1) if model.conditional_parts else []:
            found = estimate(model, x, 300, generator("noise"), label=label)
            assert torch.equal(found.marginal.log_weights, without.log_weights)
            assert found.given_label is not None
            assert len(found.given_label.log_weights) == 300


@cache
def trained(path: Path, kind: str, conditioning: str = "") -> LatentVariableModel:
    """A tiny model after a few epochs, so that its q is neither exact nor absurd."""
    model = tiny(kind, **({"conditioning": conditioning} if conditioning else {}))
    assert isinstance(model, LatentVariableModel)
    splits = load(path, "digits", 0.1)
    settings = protocol(epochs=12, batch_size=32, learning_rate=3e-3, select="last")
    train(model, splits.train, splits.validation, settings, 0)
    return model.requires_grad_(False)


def some_images(digits: Splits, images: int) -> tuple[Tensor, ...]:
    return digits.test.pixels(slice(0, images)).split(1)


SHARES = torch.arange(1, 11) / 55  # p(y) of conftest's tiny models


@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_the_marginal_is_the_sum_over_classes_by_hand(conditioning: str, digits: Splits, digits_file: Path) -> None:
    """Σ_y p(y) p(x|y) with all K samples for every class, against K shared between them."""
    model = trained(digits_file, "cvae", conditioning)
    for position, x in enumerate(some_images(digits, 3)):
        each = [
            estimate(model, x, 20_000, generator("each", label), label=torch.tensor([label])).given_label
            for label in range(10)
        ]
        total = torch.logsumexp(
            torch.tensor([given.iw_log_likelihood.item() for given in each if given]) + SHARES.log(), 0
        ).item()
        marginal = draws(model, x, 40_000, position)
        assert marginal.iw_log_likelihood.item() == pytest.approx(total, abs=0.05)


@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_a_label_adds_at_most_its_own_information(conditioning: str, digits: Splits, digits_file: Path) -> None:
    """For every image and label log p(x) ≥ log p(x|y) + log p(y)."""
    model = trained(digits_file, "cvae", conditioning)
    for x in some_images(digits, 5):
        for label in torch.arange(10).split(1):
            found = estimate(model, x, 5000, generator("noise"), label=label)
            assert found.given_label is not None
            joint = found.given_label.iw_log_likelihood.item() + SHARES[label].log().item()
            assert found.marginal.iw_log_likelihood.item() > joint - 0.05  # the estimates' own error


def test_sharing_samples_between_classes_is_unbiased_at_small_k(digits: Splits, digits_file: Path) -> None:
    """The mean of many estimates of p(x), each from 30 samples for all classes, is p(x)."""
    model = trained(digits_file, "cvae", "concat")
    (x,) = some_images(digits, 1)
    exact = draws(model, x, 200_000).iw_log_likelihood.item()
    ratios = torch.tensor([math.exp(draws(model, x, 30, i).iw_log_likelihood.item() - exact) for i in range(2000)])
    assert ratios.mean().item() == pytest.approx(1, abs=4 * ratios.std().item() / math.sqrt(2000))
    assert ratios.std() < 1.5
    assert ratios.log().mean() < 0


def test_k_counts_the_pilot_and_the_samples_of_all_classes(digits: Splits, digits_file: Path) -> None:
    assert split_budget(1000, 0) == (0, 1000)
    for samples in (1, 7, 19, 40, 97, 1000, 5003):
        pilot, weighted = split_budget(samples, 10)
        assert 10 * pilot + weighted == samples
        assert weighted >= samples / 2
    assert split_budget(1000, 10) == (2, 980)
    model = trained(digits_file, "cvae", "concat")
    (x,) = some_images(digits, 1)
    for samples in (1, 7, 97, 1000):
        for label in torch.arange(10).split(1):
            found = estimate(model, x, samples, generator("noise"), label=label)
            assert len(found.marginal.log_weights) == split_budget(samples, 10)[1]
            assert found.given_label is not None
            assert len(found.given_label.log_weights) == samples


class ByLabel(GivenLabel):
    """Two labels; under the second the proposal is worse, so that its ELBO, hence its share, is too small."""

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        assert y is not None
        return Bernoulli(z @ self.weights * (1 + 3 * y.unsqueeze(-1)) + 0.2)


def test_every_part_of_shared_samples_is_an_estimate_too() -> None:
    """Blocks of the weights are exchangeable, so that a curve over K can be read off them."""
    model = ByLabel(2)
    weights = torch.stack([draws(model, X, 40, i).log_weights for i in range(1500)]).exp()
    first, last = weights[:, :10].mean(1), weights[:, -10:].mean(1)
    assert (first - last).mean().abs() < 4 * (first - last).std() / math.sqrt(1500)


def test_the_rate_with_labels_is_that_of_the_joint(digits: Splits, digits_file: Path) -> None:
    model = trained(digits_file, "cvae", "concat")
    (x,) = some_images(digits, 1)
    found = estimate(model, x, 100, generator("noise"), label=torch.tensor([3]))
    log_q_y = class_log_posterior(model, x)[0]
    by_hand = 0.0
    for label in range(10):
        y = torch.tensor([label])
        divergence = kl_divergence(model.posterior(x, y), model.prior(y)).item()
        share = log_q_y[label].exp().item()
        by_hand += share * (divergence + math.log(share) - math.log(SHARES[label].item()))
    assert rate(model, x, found) == pytest.approx(by_hand, abs=1e-4)
    given = kl_divergence(model.posterior(x, torch.tensor([3])), model.prior(torch.tensor([3]))).item()
    assert rate(model, x, found, torch.tensor([3])) == pytest.approx(given, abs=1e-5)


@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_q_of_the_label_is_proportional_to_its_share_and_elbo(
    conditioning: str, digits: Splits, digits_file: Path
) -> None:
    model = trained(digits_file, "cvae", conditioning)
    x = digits.test.pixels(slice(0, 3))
    found = class_log_posterior(model, x, 2000)
    elbos = torch.zeros(3, 10)
    for label in range(10):
        y = torch.full((3,), label)
        q = model.posterior(x, y)
        with torch.random.fork_rng():
            torch.manual_seed(label)
            z = q.rsample(torch.Size((20_000,)))
        elbos[:, label] = model.likelihood(z, y).log_prob(x).mean(0) - kl_divergence(q, model.prior(y))
    torch.testing.assert_close(found, torch.log_softmax(elbos + SHARES.log(), -1), atol=0.2, rtol=0)
    assert found.exp().sum(-1).tolist() == pytest.approx([1, 1, 1])
    assert torch.equal(inferred_label(model, x), class_log_posterior(model, x).argmax(-1))
    torch.testing.assert_close(class_log_posterior(model, x[1:2]), class_log_posterior(model, x)[1:2])


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """The logits of all 400,000 samples would take 1.2 GB."""
    script = (
        "import resource; from conftest import tiny; import torch; from aebench.evaluation.marginal import Marginal;"
        "from aebench.randomness import generator; model = Marginal(tiny('vae', shape=(1, 28, 28)));"
        "x = torch.rand(1, 784); run = lambda k: model.estimate(x, k, generator('noise'));"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "run(2000); before = peak(); run(400_000); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 40_000  # KiB: the weights themselves
