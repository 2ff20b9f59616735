from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from aebench.config import Corruption, Data
from aebench.data.binarization import binarized
from aebench.data.datasets import Splits, load
from aebench.data.description import describe, write
from aebench.evaluation import baselines
from aebench.evaluation.probes import Labelled
from aebench.models.corruption import apply, draw
from aebench.randomness import generator
from aebench.store import Store

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


def test_pca_is_fitted_on_training_images_and_spoilt_as_the_variants_are(digits: Splits) -> None:
    measured = baselines.pca(digits, 8, CORRUPTION)
    train, test = (split.pixels(slice(None)).double().numpy() for split in (digits.train, digits.test))
    components = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:8]
    masks = [draw(CORRUPTION, (1, 64), generator("test", "corruption", image)) for image in range(len(test))]
    spoilt = apply(digits.test.pixels(slice(None)), CORRUPTION, torch.cat(masks)).double().numpy()
    for name, x in (("reconstruction_mse", test), ("denoising_mse", spoilt)):
        restored = train.mean(0) + (x - train.mean(0)) @ components.T @ components
        assert measured[name] == pytest.approx(((test - restored) ** 2).mean(1), rel=1e-3), name


def test_the_probe_of_raw_pixels_chooses_its_strength_on_validation_images(
    digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Labelled, ...]] = []

    def spy(*splits: Labelled) -> np.ndarray:
        given.append(splits)
        return splits[-1].labels

    monkeypatch.setattr(baselines, "logistic", spy)
    baselines.raw_pixels_probe(digits)
    for labelled, split in zip(given[0], (digits.train, digits.validation, digits.test), strict=True):
        assert np.array_equal(labelled.codes, split.pixels(slice(None)).numpy())


def test_what_a_baseline_depends_on_is_in_its_key(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        **{"dataset": "digits", "data_sha256": "0", "code": "0", "data": Data(validation_fraction=0.1)},
        **{"latent_dim": 8, "corruption": CORRUPTION, "numerics": "portable"},
    }
    changes: tuple[dict[str, Any], ...] = (
        *({}, {"dataset": "mine"}, {"data_sha256": "1"}, {"code": "1"}, {"data": Data(validation_fraction=0.2)}),
        *({"latent_dim": 9}, {"numerics": "native"}),
        {"corruption": Corruption(corruption="masking", corruption_rate=0.4)},
        {"corruption": Corruption(corruption="gaussian", corruption_rate=0.3)},
    )
    keys = [
        baselines.jobs(**facts | change, store=Store(tmp_path, 0))[1].keys["pca"]  # type: ignore[attr-defined]
        for change in changes
    ]
    assert len(set(keys)) == len(changes)


def test_pixels_that_are_drawn_are_drawn_the_same_for_every_baseline(digits_file: Path, tmp_path: Path) -> None:
    """Also those of the training images, which a variant sees drawn anew."""
    about = replace(describe(digits_file), binarization="stochastic")
    data = tmp_path / "binary.safetensors"
    data.write_bytes(write(binarized(load_file(digits_file), "stochastic", "digits_binary"), about))
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        splits = load(data, "digits_binary", 0.1)
        assert splits.train.dynamic_binarization
        assert not splits.validation.dynamic_binarization
        assert not splits.test.dynamic_binarization
        assert not splits.to(torch.device("cpu")).train.dynamic_binarization
        found.append({**baselines.mean_image(splits), **baselines.raw_pixels_neighbours(splits)})
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
