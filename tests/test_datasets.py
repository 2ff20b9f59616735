from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from aebench.config import Data
from aebench.data.binarization import binarized
from aebench.data.datasets import DATASETS, Split, Splits, fetch, load
from aebench.data.description import describe, write
from aebench.errors import DataError, UserError
from aebench.randomness import generator


def test_every_entry_says_what_it_is() -> None:
    for name, dataset in DATASETS.items():
        assert name.isidentifier()
        assert len(dataset.shape) == 3
        assert len(set(dataset.classes)) == len(dataset.classes) >= 10
        assert all(len(file.checksum) == (32 if file.packed else 64) for file in dataset.files)
        assert len({file.name for file in dataset.files}) == len(dataset.files)


def test_each_grey_data_set_is_there_binarised_in_every_way() -> None:
    binarised = {name: dataset.binarization for name, dataset in DATASETS.items() if dataset.binarization != "none"}
    grey = {name for name, dataset in DATASETS.items() if dataset.shape[0] == 1} - set(binarised)
    assert grey == {"fashion_mnist", "mnist", "kmnist", "emnist_letters", "omniglot", "digits"}
    ways = {"_binary": "stochastic", "_binary_fixed": "fixed", "_binary_threshold": "threshold"}
    assert binarised == {f"{name}{suffix}": way for name in grey for suffix, way in ways.items()}


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


def test_a_binary_data_set_shares_its_grey_pixels(digits: Splits, tmp_path: Path) -> None:
    splits = load(fetch("digits_binary", tmp_path, None, print), "digits_binary", 0.1)
    assert set(splits.test.pixels(slice(None)).unique().tolist()) == {0.0, 1.0}
    assert not splits.test.dynamic_binarization
    assert splits.train.dynamic_binarization
    assert splits.binarization == "stochastic"


def test_fixed_pixels_are_drawn_once_for_training_too(digits_file: Path, tmp_path: Path) -> None:
    grey = load(digits_file, "digits", 0)
    content = fetch("digits_binary_fixed", tmp_path, None, print)
    assert fetch("digits_binary_fixed", tmp_path, None, print) == content
    whole = load(content, "digits_binary_fixed", 0)
    assert (whole.binarization, whole.train.dynamic_binarization) == ("fixed", False)
    x = whole.train.pixels(slice(None), generator("noise"))
    assert torch.equal(x, whole.train.pixels(slice(None), generator("other noise")))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    for drawn, of in ((whole.train, grey.train), (whole.test, grey.test)):
        assert torch.equal(drawn.labels, of.labels)
        share = of.pixels(slice(None))
        drawn_pixels = drawn.pixels(slice(None))
        assert torch.equal(drawn_pixels[share == 0].unique(), torch.tensor([0.0]))
        assert torch.equal(drawn_pixels[share == 1].unique(), torch.tensor([1.0]))
        for value in share.unique()[1:-1]:
            at = drawn_pixels[share == value]
            assert at.mean().item() == pytest.approx(value.item(), abs=4 * (0.25 / len(at)) ** 0.5)
    # What an image looks like does not hang on whether it is held out.
    half = load(content, "digits_binary_fixed", Data(validation_images=700, validation="last"))
    assert torch.equal(torch.cat([half.train.images, half.validation.images]), whole.train.images)


def test_a_threshold_is_at_half_of_white(digits: Splits, tmp_path: Path) -> None:
    arrays = {"train_images": np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), "train_labels": np.zeros(1, int)}
    found = binarized(arrays, "threshold", "mine")  # type: ignore[arg-type]
    assert np.array_equal(found["train_images"].reshape(-1), [0] * 128 + [255] * 128)
    assert arrays["train_images"].max() == 255
    assert found["train_labels"] is arrays["train_labels"]
    splits = load(fetch("digits_binary_threshold", tmp_path, None, print), "digits_binary_threshold", 0.1)
    assert splits.binarization == "threshold"
    assert set(splits.train.pixels(slice(None)).unique().tolist()) == {0.0, 1.0}


def test_pixels_are_drawn_in_pieces_of_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    from aebench.data import binarization

    arrays = {"train_images": np.full((7, 1, 5, 5), 128, np.uint8)}
    monkeypatch.setattr(binarization, "_BLOCK", 40)
    pieces = binarized(arrays, "fixed", "mine")["train_images"]  # type: ignore[arg-type]
    flat = pieces.reshape(-1)
    assert not np.array_equal(flat[:40], flat[40:80])
    assert not np.array_equal(flat[:40], flat[80:120])


@pytest.mark.parametrize("held_out", [Data(validation_images=100), Data(validation_fraction=100 / 1437)])
def test_so_many_images_are_validation_images(digits_file: Path, held_out: Data) -> None:
    drawn = load(digits_file, "digits", held_out)
    assert (len(drawn.train), len(drawn.validation)) == (1337, 100)
    assert torch.equal(drawn.validation.images, load(digits_file, "digits", 100 / 1437).validation.images)
    whole = load(digits_file, "digits", 0).train
    last = load(digits_file, "digits", held_out.model_copy(update={"validation": "last"}))
    assert torch.equal(last.train.images, whole.images[:1337])
    assert torch.equal(last.validation.images, whole.images[1337:])
    assert torch.equal(last.validation.labels, whole.labels[1337:])
    assert torch.equal(last.test.images, drawn.test.images)


def test_no_validation_images_is_none_at_all(digits_file: Path) -> None:
    for which in ("random", "last"):
        splits = load(digits_file, "digits", Data(validation_images=0, validation=which))  # type: ignore[arg-type]
        assert (len(splits.train), len(splits.validation)) == (1437, 0)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (Data(validation_images=5), "data.validation_images takes 5, .*; set data.validation_images to 10$"),
        (Data(validation_images=1420), "found 1420, allowed: at most 1417 of the 1437 training images of digits"),
        (Data(validation_images=9999, validation="last"), "takes 1437, allowed: at least 10 on both sides"),
    ],
)
def test_a_number_that_cannot_be_held_out_is_one_line(digits_file: Path, held_out: Data, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(digits_file, "digits", held_out)
    assert "\n" not in str(caught.value)


def test_the_last_images_may_be_all_of_a_class(digits_file: Path, tmp_path: Path) -> None:
    arrays = load_file(digits_file)
    order = np.argsort(arrays["train_labels"], kind="stable")
    arrays |= {name: np.ascontiguousarray(arrays[name][order]) for name in ("train_images", "train_labels")}
    content = write(arrays, describe(digits_file))
    with pytest.raises(DataError, match=r"images of class 9, .*; add images, or set data\.validation to random"):
        load(content, "digits", Data(validation_images=200, validation="last"))


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
