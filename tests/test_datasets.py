from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from aebench.data.datasets import DATASETS, Split, Splits, fetch, load
from aebench.data.description import describe, write
from aebench.errors import DataError
from aebench.randomness import generator


def test_every_entry_says_what_it_is() -> None:
    for name, dataset in DATASETS.items():
        assert name.isidentifier()
        assert len(dataset.shape) == 3
        assert len(dataset.classes) == 10
        assert all(len(file.sha256) == 64 for file in dataset.files)


def test_digits_are_grey_images_with_labels(digits: Splits) -> None:
    assert digits.test.images.shape == (360, 64)
    assert len(digits.train) + len(digits.validation) == 1437
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.max() == 255
    assert set(digits.train.labels.tolist()) == set(range(10))
    x = digits.train.pixels(slice(None))
    assert x.dtype == torch.float32
    assert x.min() == 0
    assert x.max() == 1


def test_no_image_is_in_two_splits(digits: Splits) -> None:
    def rows(split: Split) -> set[bytes]:
        return {row.numpy().tobytes() for row in split.images}

    everything = rows(digits.train) | rows(digits.validation) | rows(digits.test)
    assert len(everything) == 1797  # the digits hold no duplicates
    assert not rows(digits.validation) & rows(digits.test)


def test_the_same_bytes_each_time(digits_file: Path, tmp_path: Path) -> None:
    assert fetch("digits", tmp_path, None, print) == digits_file.read_bytes()


def test_class_shares_are_those_of_the_training_split(digits: Splits) -> None:
    assert sum(digits.class_shares) == pytest.approx(1)
    assert digits.class_shares[3] == pytest.approx((digits.train.labels == 3).float().mean().item())


def test_binarised_pixels_are_drawn_anew_in_training_and_once_elsewhere() -> None:
    grey = Split(
        torch.full((400, 50), 64, dtype=torch.uint8), torch.zeros(400, dtype=torch.int64), dynamic_binarization=True
    )
    noise = generator("noise")
    first, second = grey.pixels(slice(None), noise), grey.pixels(slice(None), noise)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(64 / 255, abs=0.01)
    fixed = grey.fixed("name", "test")
    assert torch.equal(fixed.pixels(slice(None)), fixed.pixels(slice(None)))
    assert torch.equal(fixed.images, grey.fixed("name", "test").images)
    assert not torch.equal(fixed.images, grey.fixed("name", "validation").images)
    assert set(fixed.pixels(slice(None)).unique().tolist()) == {0.0, 1.0}


def test_a_binary_data_set_shares_its_grey_pixels(
    digits_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setitem(DATASETS, "digits_binary", replace(DATASETS["digits"], binarization="stochastic"))  # type: ignore[misc]
    splits = load(fetch("digits_binary", tmp_path, None, print), "digits_binary", 0.1)
    assert set(splits.test.pixels(slice(None)).unique().tolist()) == {0.0, 1.0}
    assert not splits.test.dynamic_binarization
    assert splits.train.dynamic_binarization
    assert splits.binarization == "stochastic"


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `dvc repro fetch@digits`"):
        load(tmp_path / "none.safetensors", "digits", 0.1)
    (tmp_path / "bad.safetensors").write_bytes(b"<html>not here</html>")
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path / "bad.safetensors", "digits", 0.1)


@pytest.mark.parametrize(
    "changed",
    [
        {"train_images": np.zeros((100, 1, 8, 8), np.float32)},
        {"test_images": np.zeros((100, 1, 9, 8), np.uint8)},
        {"test_labels": np.zeros(3, np.int64)},
        {"train_labels": np.full(1437, 10)},
        {"train_labels": np.full(1437, -1)},
    ],
)
def test_a_file_that_contradicts_itself_is_one_line(
    digits_file: Path, tmp_path: Path, changed: dict[str, NDArray[np.generic]]
) -> None:
    path = tmp_path / "digits.safetensors"
    path.write_bytes(write({**load_file(digits_file), **changed}, describe(digits_file)))
    with pytest.raises(DataError, match=r"damaged .*; delete it and run `dvc repro fetch@digits`"):
        load(path, "digits", 0.1)
    save_file(load_file(digits_file), path)  # without a description
    with pytest.raises(DataError, match="damaged"):
        load(path, "digits", 0.1)


def test_a_file_says_what_it_holds_also_as_bytes(digits_file: Path) -> None:
    about = describe(digits_file)
    assert describe(digits_file.read_bytes()) == about
    assert (about.shape, about.classes, about.binarization) == ((1, 8, 8), tuple("0123456789"), "none")


def test_the_table_knows_how_many_images_there_are(digits_file: Path) -> None:
    splits = load(digits_file, "digits", 0)
    assert len(splits.train) == DATASETS["digits"].train_images
    assert len(splits.validation) == 0
