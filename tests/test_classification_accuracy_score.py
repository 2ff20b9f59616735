"""A classifier that has seen the model's images alone, on real ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny
from sklearn.neighbors import NearestCentroid
from test_annealing import MEANS, Labelled
from test_evaluate import EVALUATION
from torch import Tensor
from torch.distributions import Distribution

from aebench.data.datasets import Split, Splits
from aebench.evaluation.context import Context
from aebench.evaluation.metrics.classification_accuracy_score import _samples as samples_of_classes
from aebench.evaluation.metrics.classification_accuracy_score import measure, not_defined
from aebench.evaluation.pictures import pictures, prior_samples
from aebench.models.autoencoder import Autoencoder
from aebench.models.labels import sample_prior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import unit_normal
from aebench.models.likelihoods import Likelihood
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.randomness import drawing_from, generator


class Prototypes(LatentVariableModel):
    """Images of a class are one prototype with noise."""

    conditional_parts = frozenset({"likelihood"})

    def __init__(self, prototypes: Tensor) -> None:
        super().__init__()
        self.prototypes, self.log_class_shares = prototypes, torch.full((len(prototypes),), 1 / len(prototypes)).log()

    def prior(self, y: Tensor | None = None) -> Distribution:
        return unit_normal(torch.zeros(2))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return unit_normal(torch.zeros(len(x), 2))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        assert y is not None
        return Gaussian(self.prototypes[y].expand(*z.shape[:-1], -1), torch.tensor(0.3).log())

    def loss(self, *_: object, **__: object) -> dict[str, Tensor]:
        raise NotImplementedError


def score(model: Autoencoder, splits: Splits, seed: int = 0) -> np.ndarray:
    found = measure(Context(model, splits, EVALUATION, seed, lambda *_: None)).per_image
    return found["classification_accuracy_score"]


def means(digits: Splits) -> Tensor:
    x, y = digits.train.pixels(slice(None)), digits.train.labels
    return torch.stack([x[y == label].mean(0) for label in range(10)])


def test_of_noise_around_the_mean_images_it_is_the_accuracy_of_the_nearest_mean(digits: Splits) -> None:
    """With equal spread all around, the best classifier is linear, and reads the class of the nearest mean."""
    found = score(Prototypes(means(digits)), digits)
    assert found.shape == (len(digits.test),)
    train, test = (split.pixels(slice(None)).numpy() for split in (digits.train, digits.test))
    nearest = NearestCentroid().fit(train, digits.train.labels).score(test, digits.test.labels)
    assert nearest > 0.85
    assert found.mean() == pytest.approx(nearest, abs=0.05)


def test_it_falls_with_the_model_and_sees_no_real_image(digits: Splits) -> None:
    prototypes = means(digits)
    found = score(Prototypes(prototypes), digits)
    swapped = prototypes[[1, 0, *range(2, 10)]]  # zeros for ones
    wrong = score(Prototypes(swapped), digits)
    confused = digits.test.labels.numpy() < 2
    assert wrong[confused].mean() < 0.1
    assert wrong[~confused].mean() == pytest.approx(found[~confused].mean(), abs=0.05)
    spoilt = replace(digits, train=replace(digits.train, images=torch.zeros_like(digits.train.images)))
    assert (score(Prototypes(prototypes), spoilt) == found).all()
    assert (score(Prototypes(prototypes), digits, seed=1) != found).any()


def test_classes_have_their_shares_of_the_training_images(digits: Splits) -> None:
    rare = digits.train.labels < 2
    places = torch.cat([rare.nonzero()[:20, 0], (~rare).nonzero()[:380, 0]])
    train = Split(digits.train.images[places], digits.train.labels[places])
    model, of_run = Prototypes(means(digits)), replace(digits, train=train)
    _, y = samples_of_classes(Context(model, of_run, EVALUATION, 0, lambda *_: None))
    counts = torch.bincount(train.labels, minlength=10)
    assert len(y) == 400
    assert np.bincount(y, minlength=10) == pytest.approx(counts.numpy(), abs=1)


def test_samples_of_a_class_are_that_class_and_each_seeds_own(digits: Splits) -> None:
    prototypes = means(digits)
    found = prior_samples(Prototypes(prototypes), 10, generator("samples"))
    for row, prototype in zip(found, prototypes, strict=True):
        torch.testing.assert_close(row, prototype.expand_as(row))
    drawn = [
        pictures(tiny("vae").requires_grad_(False), digits, EVALUATION, seed, np.zeros((len(digits.test), 3)),
                 np.zeros(len(digits.test)))["samples"]
        for seed in (0, 1)
    ]  # fmt: skip
    assert not np.array_equal(*drawn)


def test_latents_of_a_class_come_from_the_prior_of_that_class() -> None:
    y = torch.arange(3)
    with drawing_from(generator("latents")):
        z = sample_prior(Labelled("prior"), 10_000, y)
    assert z.shape == (10_000, 3, 3)
    torch.testing.assert_close(z.mean(0), MEANS, atol=0.05, rtol=0)


@pytest.mark.parametrize(("kind", "reason"), [("ae", "has no p(z)"), ("vae", "makes no images of a given class")])
def test_without_a_class_to_ask_for_it_is_not_defined(kind: str, reason: str, digits: Splits) -> None:
    (found,) = not_defined(Context(tiny(kind), digits, EVALUATION, 0, lambda *_: None)).values()
    assert reason in found
