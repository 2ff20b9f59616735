from pathlib import Path

import numpy as np
import pytest

from aebench.config import Corruption
from aebench.data.datasets import Splits, load
from aebench.evaluation import baselines

CORRUPTION = Corruption(corruption="masking", corruption_rate=0.3)


def test_pca_reconstructs_as_its_singular_values_say(digits: Splits) -> None:
    """Eckart & Young: no linear code of 8 numbers does better on the training images."""
    measured = baselines.pca(Splits(digits.train, digits.validation, digits.train, digits.shape, 10), 8, CORRUPTION)
    x = digits.train.pixels(slice(None)).double().numpy()
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    assert measured["reconstruction_mse"].mean() == pytest.approx((values[8:] ** 2).sum() / x.size, rel=1e-4)
    assert measured["denoising_mse"].mean() > measured["reconstruction_mse"].mean()


def test_baselines_do_without_a_validation_split(digits_file: Path) -> None:
    splits = load(digits_file, "digits", 0)
    assert baselines.pca(splits, 8, CORRUPTION)["probe_accuracy"].mean() > 0.7
    assert baselines.raw_pixels_probe(splits)["probe_accuracy"].mean() > 0.8


def test_the_mean_image_is_that_of_the_training_images(digits: Splits) -> None:
    measured = baselines.mean_image(digits)
    x, mean = digits.test.pixels(slice(None)).numpy(), digits.train.pixels(slice(None)).numpy().mean(0)
    assert measured["reconstruction_mse"] == pytest.approx(((x - mean) ** 2).mean(1), rel=1e-4)
    assert measured["reconstruction_bce_nats"].mean() < 64 * np.log(2)
