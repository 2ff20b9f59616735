"""The calibration of class probabilities, against figures by hand."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import tiny
from numpy.typing import NDArray
from test_evaluate import EVALUATION

from aebench.data.datasets import Splits
from aebench.evaluation.context import Context
from aebench.evaluation.metrics import calibration
from aebench.evaluation.metrics.calibration import BINS, calibration_error
from aebench.models.labels import class_log_posterior
from aebench.models.latent_variable_model import LatentVariableModel


def two_classes(confidences: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([confidences, 1 - confidences], axis=1)


def test_it_is_what_the_bins_come_to() -> None:
    # Of five bins: two images in (0.4, 0.6], of which one is right; one in (0.6, 0.8], wrong; one in (0.8, 1], right.
    shares, labels = two_classes(np.array([0.55, 0.6, 0.7, 1.0])), np.array([0, 1, 1, 0])
    by_hand = (2 * abs(0.5 - 0.575) + abs(0 - 0.7) + abs(1 - 1.0)) / 4
    assert calibration_error(shares, labels, 5) == pytest.approx(by_hand)


def test_against_its_definition_bin_by_bin() -> None:
    random = np.random.default_rng(0)
    shares, labels = random.dirichlet(np.ones(4), 500), random.integers(4, size=500)
    confidence, right, expected = shares.max(1), shares.argmax(1) == labels, 0.0
    for low, high in pairwise(np.linspace(0, 1, BINS + 1)):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(shares, labels) == pytest.approx(expected)


def test_labels_drawn_from_the_probabilities_themselves_are_calibrated() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 20_000)
    labels = (random.uniform(size=20_000) >= confidence).astype(np.int64)
    assert calibration_error(two_classes(confidence), labels) < 0.02
    assert calibration_error(two_classes(np.sqrt(confidence)), labels) > 0.08  # overconfident


def test_the_scores_of_a_model_are_those_of_its_q_of_y(digits: Splits) -> None:
    model = tiny("cvae", conditioning="concat").requires_grad_(False)
    found = calibration.measure(Context(model, digits, EVALUATION, 0, lambda *_: None))
    assert isinstance(model, LatentVariableModel)
    shares = class_log_posterior(model, digits.test.pixels(slice(None))).exp().double().numpy()
    labels = digits.test.labels.numpy()
    brier, log_loss = found.per_image["generative_brier_score"], found.per_image["generative_log_loss_nats"]
    for image in (0, 7):
        of_class = [(share - (label == labels[image])) ** 2 for label, share in enumerate(shares[image])]
        assert brier[image] == pytest.approx(sum(of_class), abs=1e-6)
        assert log_loss[image] == pytest.approx(-np.log(shares[image, labels[image]]), abs=1e-4)
    assert found.of_run["generative_calibration_error"] == pytest.approx(calibration_error(shares, labels), abs=1e-6)
