"""What each family of metrics measures, against its definition."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from oracles import LinearGaussian
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from test_annealing import OFFSETS, SHARES, Labelled
from test_evaluate import EVALUATION, config, described, evaluated, run, small
from test_expost import Linear, images
from test_gaps import Diagonal
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from aebench.config import Evaluation, Expost
from aebench.data.datasets import Split, Splits
from aebench.evaluation import cell as evaluation_cell
from aebench.evaluation import likelihoods as of_images
from aebench.evaluation import probes as of_codes
from aebench.evaluation.aggregated import information
from aebench.evaluation.bounds import bound_gaps
from aebench.evaluation.context import Context
from aebench.evaluation.diagnostics import pareto_k, pareto_k_limit
from aebench.evaluation.document import document
from aebench.evaluation.expost import ExPost
from aebench.evaluation.marginal import Marginal
from aebench.evaluation.metrics import (
    active_units,
    aggregated_posterior,
    bits,
    bound_gap,
    gaps,
    likelihood,
    metrics,
    reconstruction,
)
from aebench.evaluation.proposals import propose
from aebench.models.autoencoder import Autoencoder
from aebench.models.corruption import apply, draw
from aebench.models.generative import GenerativeModel
from aebench.models.labels import class_log_posterior, inferred_label
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.paths import Layout
from aebench.randomness import generator
from aebench.store import Store
from aebench.training import cell as training_cell
from aebench.training.trained_run import read_run
from aebench.variants.hvae import HVAE

SHAPE = (1, 8, 8)


def split(count: int, *key: int | str, pixels: int = 64, darkest: int = 0) -> Split:
    """Random images, with labels of ten classes in turn."""
    drawn = torch.randint(darkest, 256, (count, pixels), generator=generator("split", *key), dtype=torch.uint8)
    return Split(drawn, torch.arange(count) % 10)


def context(
    model: Autoencoder | GenerativeModel, splits: Splits, evaluation: Evaluation = EVALUATION, seed: int = 0
) -> Context:
    found = Context(model, splits, evaluation, seed, lambda *_: None)  # type: ignore[arg-type]
    if not isinstance(model, Autoencoder):
        found.__dict__["latent_variable_model"] = model  # one that is not trained, but known in closed form
    return found


# Reconstructions


def test_reconstructions_are_measured_by_their_definitions() -> None:
    """With more images than are taken together, so that each has a corruption of its own."""
    model, test = tiny("cvae", conditioning="concat"), split(1003, "test")
    assert isinstance(model, LatentVariableModel)
    found = reconstruction.measure(context(model, Splits(test, test, test, SHAPE, 10))).per_image
    x, y = test.pixels(slice(None)), test.labels
    masks = [draw(EVALUATION, (1, 64), generator("test", "corruption", image)) for image in range(1003)]
    spoilt = apply(x, EVALUATION, torch.cat(masks))
    with torch.no_grad():
        likeliest = class_log_posterior(model, x).argmax(-1)
        x_hat = model.reconstruct(x, likeliest)
        expected = {
            "reconstruction_mse": (x - x_hat).square().mean(-1),
            "denoising_mse": (x - model.reconstruct(spoilt)).square().mean(-1),
            "reconstruction_mse_given_label": (x - model.reconstruct(x, y)).square().mean(-1),
            "denoising_mse_given_label": (x - model.reconstruct(spoilt, y)).square().mean(-1),
            "reconstruction_bce_nats": -(x * x_hat.log() + (1 - x) * (1 - x_hat).log()).sum(-1),
            "generative_accuracy": (likeliest == y).double(),
        }
    assert torch.equal(likeliest, inferred_label(model, x))
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=2e-4, atol=1e-6, err_msg=name)


# Bounds


class Exact(Labelled):
    """q(z|x, y) is the posterior, so that the ELBO is log p(x), if q(y|x) is the posterior too."""

    def __init__(self) -> None:
        super().__init__("posterior", "likelihood")

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return self.exact_posterior(x if y is None else x - 3 * OFFSETS[y])

    def likelihood(self, z: Tensor, y: Tensor | None = None):  # type: ignore[no-untyped-def]
        given = super().likelihood(z, y)
        # The classes are far apart.
        return type(given)(given.mean + 2 * OFFSETS[y], self.log_sigma)  # type: ignore[call-arg]

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(y) p(x|y), `[B, C]`."""
        covariance = self.weights @ self.weights.T + self.variance * torch.eye(5, dtype=torch.float64)
        return SHARES + MultivariateNormal(self.offset + 3 * OFFSETS, covariance).log_prob(x[:, None].double())


def grey(count: int, darkest: int, *key: str) -> Split:
    found = split(count, *key, pixels=5, darkest=darkest)
    return Split(found.images, torch.arange(count) % 3)


@pytest.mark.parametrize("proposal", ["laplace", "amortised"])
def test_with_exact_posteriors_all_bounds_are_exact(proposal: str) -> None:
    """Also given the label, and for the training images."""
    model, test = Exact(), grey(200, 128, "test")
    evaluation = EVALUATION.model_copy(update={"proposal": proposal, "importance_samples": 60})
    found, _ = of_images.likelihoods(model, test, evaluation, 0, lambda *_: None)  # type: ignore[arg-type]
    exact = model.log_joint(test.pixels(slice(None)))
    expected = {
        "elbo_nats": exact.logsumexp(-1),
        "iw_log_likelihood_nats": exact.logsumexp(-1),
        "elbo_given_label_nats": (exact - SHARES)[torch.arange(200), test.labels],
        "iw_log_likelihood_given_label_nats": (exact - SHARES)[torch.arange(200), test.labels],
    }
    for name, values in expected.items():
        # What is left are errors of the pilot's q(y|x), and of the samples of the distortion.
        error = found[name] - values.numpy()
        assert error.mean() == pytest.approx(0, abs=0.06), name
        assert error.std() < 0.6, name
    np.testing.assert_allclose(found["elbo_nats"], -found["distortion_nats"] - found["rate_nats"], atol=1e-9)


@pytest.mark.parametrize("samples", [5, 60])
def test_the_generalisation_gap_is_what_the_elbo_of_training_images_is_above_that_of_test_images(samples: int) -> None:
    """However few samples there are, the classes of training images are weighed as those of test images are."""
    model, train, test = Exact(), grey(400, 0, "train"), grey(200, 250, "test")
    evaluation = EVALUATION.model_copy(update={"proposal": "laplace", "importance_samples": samples})
    splits = Splits(train, train, test, (1, 1, 5), 3)
    found = likelihood.measure(context(model, splits, evaluation)).of_run["generalisation_gap_nats"]
    chosen = torch.randperm(400, generator=generator("generalisation gap"))[:200]
    exact = [model.log_joint(x).logsumexp(-1).mean().item() for x in (train.pixels(chosen), test.pixels(slice(None)))]
    assert abs(exact[0] - exact[1]) > 0.2
    assert found == pytest.approx(exact[0] - exact[1], abs=0.1)


def test_all_seeds_look_at_the_same_training_images() -> None:
    seen: list[Tensor | slice] = []

    class Watched(Split):
        def pixels(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Tensor:
            seen.append(index)
            return super().pixels(index, generator)

    train, test = grey(60, 0, "train"), grey(20, 0, "test")
    splits = Splits(Watched(train.images, train.labels), train, test, (1, 1, 5), 3)
    for seed in (0, 1):
        of_images.elbo_on_training_images(Exact(), splits, EVALUATION, seed)  # type: ignore[arg-type]
    (first, second), places = seen, set(range(60))
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    assert torch.equal(first, second)
    assert len(set(first.tolist()) & places) == 20


def test_bits_a_dimension_are_those_of_the_estimate() -> None:
    model, test = LinearGaussian(), grey(10, 0, "test")
    evaluation = EVALUATION.model_copy(update={"proposal": "amortised"})
    of_run = context(model, Splits(test, test, test, (1, 1, 5), 3), evaluation)
    found = bits.measure(of_run).per_image["bits_per_dimension"]
    expected = [-model.log_likelihood(x) / (5 * np.log(2)) for x in test.pixels(slice(None)).double()[:, None]]
    assert found == pytest.approx(expected, abs=1e-5)


def test_images_with_an_unreliable_k_are_those_above_the_limit_for_their_samples() -> None:
    """The limit depends on K: of 97 samples it is 0.5."""

    class Narrow(LinearGaussian):
        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            right = self.exact_posterior(x)
            return MultivariateNormal(right.mean, 0.35 * right.covariance_matrix)

    evaluation = EVALUATION.model_copy(update={"proposal": "amortised"})
    found, _ = of_images.likelihoods(Narrow(), grey(60, 0, "test"), evaluation, 0, lambda *_: None)  # type: ignore[arg-type]
    above = found["pareto_k"] > 1 - 1 / np.log10(97)
    assert (above != (found["pareto_k"] > 0.7)).any()
    assert np.array_equal(found["pareto_k_unreliable_share"], above)
    assert pareto_k_limit(97) == pytest.approx(1 - 1 / np.log10(97))
    assert np.isfinite(pareto_k(torch.randn(97, dtype=torch.float64)))


def test_the_bounds_gap_is_a_mean_in_which_negative_gaps_count() -> None:
    class Off(LinearGaussian):
        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            right = self.exact_posterior(x)
            return MultivariateNormal(right.mean + 0.2, 1.5 * right.covariance_matrix)

    evaluation = EVALUATION.model_copy(
        update={"proposal": "amortised", "importance_samples": 3, "bound_gap_images": 50}
    )
    test = grey(4, 0, "test")
    of_run = context(Off(), Splits(test, test, test, (1, 1, 5), 3), evaluation)
    each = bound_gaps(Off(), evaluation, 0)
    assert (each < 0).any()
    assert bound_gap.measure(of_run).of_run["bound_gap_nats"] == pytest.approx(each.mean().item())


def test_the_gap_of_the_family_and_that_of_the_encoder_have_their_names() -> None:
    """Of a q with the best diagonal there is, but far from its place, the encoder lacks more than the family."""

    class Elsewhere(Diagonal):
        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            q = super().posterior(x)
            return type(q)(type(q.base_dist)(q.mean + 1, q.stddev), 1)  # type: ignore[attr-defined,call-arg]

    test = grey(3, 0, "test")
    found = gaps.measure(context(Elsewhere(), Splits(test, test, test, (1, 1, 5), 3))).per_image
    assert (found["amortisation_gap_nats"] > 3 * np.abs(found["approximation_gap_nats"])).all()


def test_gaps_of_all_seeds_are_of_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else differences between variants would be taken over different images."""
    seen: list[Tensor] = []

    def fake(model: object, x: Tensor, seed: int, first: int) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return x[:, 0], x[:, 0]

    monkeypatch.setattr(gaps, "IMAGES", 4)
    monkeypatch.setattr("aebench.evaluation.gaps.gaps", fake)
    test = grey(30, 0, "test")
    for seed in (0, 1):
        gaps.measure(context(Diagonal(), Splits(test, test, test, (1, 1, 5), 3), seed=seed))
    assert torch.equal(*seen)


class Told(LinearGaussian):
    """q(z|x) = N(5 x₁, 0.01): dark and bright images have latents apart."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        mean = 5 * x[:, :1].double().expand(-1, 3)
        return MultivariateNormal(mean, 0.01 * torch.eye(3).to(mean))


def test_what_the_rate_holds_beyond_information_is_the_divergence_of_the_aggregated_posterior() -> None:
    """Of two kinds of images, that are as many, a latent tells log 2 nats: which of the two its image is."""
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(30)[:, None].expand(-1, 5).contiguous()
    test, model = Split(images, torch.zeros(60, dtype=torch.long)), Told()
    found = aggregated_posterior.measure(context(model, Splits(test, test, test, (1, 1, 5), 1))).per_image
    rate = kl_divergence(model.posterior(test.pixels(slice(None))), model.prior()).mean().item()
    assert found["mutual_information_nats"].mean() == pytest.approx(math.log(2), abs=1e-4)
    assert found["aggregated_posterior_kl_nats"].mean() == pytest.approx(rate - math.log(2), abs=1e-3)


@pytest.mark.parametrize(
    ("proposal", "samples", "pilot"), [("amortised", 5, 0), ("amortised", 60, 2), ("laplace", 5, 2)]
)
def test_the_information_is_of_the_classes_that_the_rate_is_of(proposal: str, samples: int, pilot: int) -> None:
    """A share of the importance samples finds them, unless those are drawn from something else."""
    model, test = Exact(), grey(40, 0, "test")
    evaluation = EVALUATION.model_copy(update={"proposal": proposal, "importance_samples": samples})
    of_run = context(model, Splits(test, test, test, (1, 1, 5), 3), evaluation)
    found = aggregated_posterior.measure(of_run).per_image["mutual_information_nats"]
    x = [test.pixels(slice(None))]
    each = [information(model, x, generator(0, "aggregated posterior"), of_class) for of_class in (pilot, 2 - pilot)]  # type: ignore[arg-type]
    np.testing.assert_allclose(found, each[0], rtol=1e-9)
    assert not np.allclose(found, each[1])


# Codes


def clouds(count: int, *key: str, labels: Tensor | None = None) -> of_codes.Labelled:
    """Three overlapping classes."""
    y = torch.randint(3, (count,), generator=generator(*key)) if labels is None else labels
    codes = torch.randn(count, 2, generator=generator(*key, "codes"))
    codes[:, 0] += 1.5 * y
    return of_codes.Labelled(codes.numpy(), y.numpy())


def test_the_strength_of_the_probe_is_chosen_on_validation_images() -> None:
    """Not on training or test images, which here would have chosen another."""
    train = clouds(60, "train")
    test = of_codes.Labelled(clouds(60, "test").codes, (clouds(60, "test").labels + 1) % 3)
    scaler = StandardScaler().fit(train.codes)
    fitted = {
        strength: LogisticRegression(C=strength, max_iter=500, tol=1e-3).fit(
            scaler.transform(train.codes), train.labels
        )
        for strength in of_codes.REGULARISATION
    }

    def chosen(by: of_codes.Labelled) -> float:
        return max(fitted, key=lambda strength: fitted[strength].score(scaler.transform(by.codes), by.labels))

    others = [clouds(25, f"validation {draw}") for draw in range(200)]
    validation = next(other for other in others if chosen(other) not in (chosen(train), chosen(test)))
    expected = fitted[chosen(validation)].predict(scaler.transform(test.codes))
    assert any(not np.array_equal(expected, each.predict(scaler.transform(test.codes))) for each in fitted.values())
    accuracies, predicted = of_codes.probes(train, validation, test)
    assert np.array_equal(predicted, expected)
    assert np.array_equal(accuracies["probe_accuracy"], expected == test.labels)
    neighbours = KNeighborsClassifier(5).fit(train.codes, train.labels).predict(test.codes)
    assert np.array_equal(accuracies["knn_accuracy"], neighbours == test.labels)


def test_codes_are_those_of_their_split() -> None:
    model = tiny("ae")
    splits = Splits(split(30, "train"), split(20, "validation"), split(10, "test"), SHAPE, 10)
    of_run = context(model, splits)
    for name in ("train", "validation", "test"):
        with torch.no_grad():
            expected = model.encode(getattr(splits, name).pixels(slice(None)))
        assert np.array_equal(getattr(of_run, name).codes, expected.numpy())
        assert np.array_equal(getattr(of_run, name).labels, getattr(splits, name).labels)


def test_active_units_are_those_whose_mean_varies_by_more_than_a_hundredth_over_test_images() -> None:
    test = split(400, "test")
    of_run = context(tiny("vae"), Splits(test, test, test, SHAPE, 10))
    scales = np.sqrt([0.005, 0.05, 1.0])
    drawn = np.random.default_rng(0).normal(size=(400, 3))
    of_run.__dict__["test"] = of_codes.Labelled((drawn * scales).astype(np.float32), test.labels.numpy())
    of_run.__dict__["train"] = of_codes.Labelled(drawn.astype(np.float32), test.labels.numpy())
    found = active_units.measure(of_run)
    assert found.of_run["active_units"] == 2
    assert found.vectors["posterior_mean_variance"] == pytest.approx([0.005, 0.05, 1.0], rel=0.3)


def test_a_lower_level_that_is_its_prior_has_no_active_unit() -> None:
    """The means of p(z₁|z₂) vary with z₂, and no image is needed for that."""

    class Collapsed(torch.nn.Module):
        def forward(self, x: Tensor, upper: Tensor) -> Tensor:
            output: Tensor = model.between(upper)
            return output

    test, model = split(200, "test"), tiny("hvae")
    assert isinstance(model, HVAE)
    for weight in model.between.parameters():
        weight.data.mul_(5)
    of_run = context(model, Splits(test, test, test, SHAPE, 10))
    before = active_units.measure(of_run).vectors["posterior_mean_variance"]
    model.lower_encoder = Collapsed()  # type: ignore[assignment]
    after = active_units.measure(context(model, of_run.splits)).vectors["posterior_mean_variance"]
    codes = context(model, of_run.splits).test.codes.var(axis=0)
    assert min(before[: model.lower]) > 1e-6
    assert min(codes[: model.lower]) > 1e-6
    assert after[: model.lower] == [0.0] * model.lower
    assert after[model.lower :] == before[model.lower :] == pytest.approx(codes[model.lower :], rel=1e-5)


# Ex-post densities


def test_expost_figures_are_of_the_same_images_for_all_seeds_with_the_sigma_of_validation() -> None:
    model, train, test = Linear(), images(600, "train"), images(60, "test")
    noisy = images(200, "validation")
    noisy = Split((noisy.images.float() + 20 * torch.randn(200, 8, generator=generator("more"))).clamp(0, 255).to(
        torch.uint8
    ), noisy.labels)  # fmt: skip
    splits = Splits(train, noisy, test, (1, 1, 8), 2)
    evaluation = EVALUATION.model_copy(update={"expost": Expost(images=10, importance_samples=400)})
    first, sigma = of_images.expost_likelihoods(model, splits, evaluation, 0, lambda *_: None)
    second, _ = of_images.expost_likelihoods(model, splits, evaluation, 1, lambda *_: None)
    np.testing.assert_allclose(first["expost_log_likelihood_nats"], second["expost_log_likelihood_nats"], atol=0.3)
    assert np.ptp(first["expost_log_likelihood_nats"]) > 1  # of other images it would be another
    x = noisy.pixels(slice(None))
    assert sigma == pytest.approx((x - model.reconstruct(x)).square().mean().sqrt().item())
    on_train = ExPost(model, train, train).log_sigma.exp().item()
    assert sigma > 1.2 * on_train


# What becomes of them


def test_an_evaluation_says_what_it_found(digits_file: Path, tmp_path: Path) -> None:
    """The predictions of the probe are those that are scored, and a rule that ended a run did not cut it short."""
    data = small(digits_file, tmp_path / "data.safetensors")
    folder = run(data, tmp_path / "run", "ae")
    found = evaluated(folder, data)
    predicted, labels = found.arrays["probe_predictions"], found.arrays["labels"]
    assert np.mean(predicted == labels) == pytest.approx(found.metrics["probe_accuracy"])
    assert not np.array_equal(predicted, labels)

    losses = [100.0 - epoch for epoch in range(38)] + [90.0, 90.0]
    history = [{"train_loss": loss, "validation_loss": loss} for loss in losses]

    def improving() -> float:
        return evaluated(folder, data, history=history).metrics["still_improving"]

    assert improving() == 1  # the lowest is one of the last tenth
    description = json.loads((folder / "config.json").read_text())
    described(folder, training=description["training"] | {"epochs": 41})
    assert improving() == 0


def test_the_interval_over_images_is_that_of_their_means_over_all_seeds(digits_file: Path, tmp_path: Path) -> None:
    data = small(digits_file, tmp_path / "data.safetensors")
    first = evaluated(run(data, tmp_path / "run", "ae"), data)
    values = np.random.default_rng(0).normal(size=(2, 60))
    both = {seed: replace(first, per_image=first.per_image | {"reconstruction_mse": values[seed]}) for seed in (0, 1)}
    found = document("digits", config("ae"), EVALUATION, both)["summary"]["reconstruction_mse"]
    of_images_alone = values.mean(0)
    expected = stats.t.interval(0.95, 59, of_images_alone.mean(), stats.sem(of_images_alone))
    assert found["ci95_images"] == pytest.approx(expected)


# The registry

LOWER_IS_BETTER = (
    *("reconstruction_mse", "denoising_mse", "reconstruction_mse_given_label", "denoising_mse_given_label"),
    *("reconstruction_bce_nats", "bits_per_dimension", "approximation_gap_nats", "amortisation_gap_nats"),
    *("generative_calibration_error", "generative_brier_score", "generative_log_loss_nats"),
)
HIGHER_IS_BETTER = (
    *("iw_log_likelihood_nats", "iw_log_likelihood_given_label_nats", "expost_log_likelihood_nats"),
    *("elbo_nats", "elbo_given_label_nats", "probe_accuracy", "probe_accuracy_10_labels", "probe_accuracy_100_labels"),
    *("probe_accuracy_1000_labels", "knn_accuracy", "generative_accuracy", "classification_accuracy_score"),
    *("ood_auroc_likelihood", "ood_auroc_reconstruction"),
)


def test_each_metric_has_its_direction_and_its_scale() -> None:
    for direction, names in (("↓", LOWER_IS_BETTER), ("↑", HIGHER_IS_BETTER)):
        for name in names:
            assert metrics()[name].better == direction, name
            assert metrics()[name].scale == {"%": 100, "10⁻³": 1e3}.get(metrics()[name].unit, 1), name
    assert metrics()["expost_sigma"].scale == 1e3


def test_a_proposal_is_refined_with_random_numbers_of_each_image_and_seed() -> None:
    model = tiny("vae")
    assert isinstance(model, LatentVariableModel)
    x = split(1, "x").pixels(slice(None)).repeat(2, 1)
    first, other = (propose("refined", Marginal(model), x, seed=seed).marginal.q.mean for seed in (0, 1))  # type: ignore[attr-defined,arg-type]
    assert not torch.allclose(first[0], first[1], atol=1e-4)
    assert not torch.allclose(first, other, atol=1e-4)


# What results are kept under


def test_what_an_evaluation_depends_on_is_in_its_key(digits_file: Path, tmp_path: Path) -> None:
    """Else an edit of params.yaml would find the result of before it."""
    data = small(digits_file, tmp_path / "data.safetensors")
    stored = read_run(run(data, tmp_path / "run", "ae"))
    facts = {"runs": {0: stored}, "config": EVALUATION, "dataset": "digits", "data_sha256": "0", "code": "0"}
    changes: tuple[dict[str, object], ...] = (
        *({}, {"dataset": "mine"}, {"data_sha256": "1"}, {"code": "1"}),
        {"config": EVALUATION.model_copy(update={"importance_samples": 98})},
        {"config": EVALUATION.model_copy(update={"expost": Expost(images=21, importance_samples=60)})},
        {"runs": {0: replace(stored, description=stored.description | {"numerics": "portable"})}},
        {"runs": {0: replace(stored, weights=b"")}},
    )
    keys = [
        evaluation_cell.jobs(**{**facts, **change}, store=Store(tmp_path / "store", 10**6))[1].keys["ae seed 0"]  # type: ignore[arg-type]
        for change in changes
    ]
    assert len(set(keys)) == len(changes)


def test_what_a_run_depends_on_is_in_its_key(tmp_path: Path) -> None:
    layout, store, settings = Layout(tmp_path), Store(tmp_path / "store", 10**6), config("vae")
    facts = {"config": settings, "dataset": "digits", "data_sha256": "0", "code": "0", "seeds": [0]}
    changes: tuple[dict[str, object], ...] = (
        *({}, {"dataset": "mine"}, {"data_sha256": "1"}, {"code": "1"}),
        {"config": config("vae", beta=2.0)},
        {"config": settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 4})})},
        {"config": settings.model_copy(update={"numerics": "portable"})},
    )
    keys = [
        training_cell.jobs(**{**facts, **change}, layout=layout, store=store, local=True)[1].keys["vae seed 0"]  # type: ignore[arg-type]
        for change in changes
    ]
    keys += training_cell.jobs(**{**facts, "seeds": [1]}, layout=layout, store=store, local=True)[1].keys.values()  # type: ignore[arg-type]
    assert len(set(keys)) == len(changes) + 1
