"""The data sets: one entry each in one table, and what a run sees of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read
from safetensors.numpy import load_file, save
from torch import Tensor

from aebench.config import DatasetFacts, held_out_images
from aebench.data.sources import RawFile, Source, debian_package, local_folder, obtain, torchvision_mirrors
from aebench.errors import DataError
from aebench.randomness import generator

Arrays = dict[str, NDArray[np.generic]]
Binarization = Literal["none", "stochastic"]


@dataclass(frozen=True)
class Dataset:
    """One data set.

    `binarization` is how its pixels are used: `none` (grey in [0, 1]), or `stochastic` (each pixel is 1 with its grey
    value as probability: anew in each epoch of training, once and for all in validation and test).
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int
    binarization: Binarization
    load: Callable[[Path], Arrays]
    """From the folder of raw files: `{train,test}_images` uint8 `[N, C, H, W]`, `{train,test}_labels` int64 `[N]`."""
    raw: str
    """The folder of its raw files; data sets that are made of the same files share it."""
    files: tuple[RawFile, ...] = ()
    sources: Callable[[], tuple[Source, ...]] = tuple


def _fashion_mnist(folder: Path) -> Arrays:
    def read(name: str, header: int) -> NDArray[np.uint8]:
        # The content is verified, so its header needs no parsing: images have four numbers there, labels two.
        return np.frombuffer((folder / name).read_bytes(), np.uint8, offset=header)

    return {
        "train_images": read("train-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28),
        "train_labels": read("train-labels-idx1-ubyte", 8).astype(np.int64),
        "test_images": read("t10k-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28),
        "test_labels": read("t10k-labels-idx1-ubyte", 8).astype(np.int64),
    }


def _digits(_: Path) -> Arrays:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    order = torch.randperm(len(labels), generator=generator("digits", "split")).numpy()
    test, train = order[:360], order[360:]
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_FASHION_FILES = tuple(
    RawFile(*row)
    for row in (
        ("train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        ("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        ("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        ("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    )
)


def _fashion_sources() -> tuple[Source, ...]:
    return torchvision_mirrors(), debian_package("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")


_FASHION = Dataset(
    shape=(1, 28, 28),
    classes=_FASHION_CLASSES,
    train_images=60_000,
    binarization="none",
    load=_fashion_mnist,
    raw="fashion_mnist",
    files=_FASHION_FILES,
    sources=_fashion_sources,
)

DATASETS: Mapping[str, Dataset] = {
    "fashion_mnist": _FASHION,
    "fashion_mnist_binary": replace(_FASHION, binarization="stochastic"),
    "digits": Dataset((1, 8, 8), tuple("0123456789"), 1437, "none", _digits, raw="digits"),
}

# Probes draw labelled images by class, some for training and some not.
FEWEST_OF_A_CLASS = 2

FACTS = {name: DatasetFacts(dataset.train_images, dataset.binarization != "none") for name, dataset in DATASETS.items()}


def fetch(name: str, raw: Path, source_dir: Path | None, say: Callable[[str], None]) -> bytes:
    """A data set as the content of a safetensors file.

    Args:
        name: a key of `DATASETS`.
        raw: the folder that holds the folders of raw files.
        source_dir: the user's folder, looked into before any network.
        say: gets one line for every source that was tried.

    Raises:
        DataError: no source has the files.
    """
    dataset = DATASETS[name]
    own = (local_folder(source_dir, f"execution.source_dir {source_dir}"),) if source_dir else ()
    obtain(dataset.files, raw / dataset.raw, (*own, *dataset.sources()), say)
    return save({key: np.ascontiguousarray(value) for key, value in dataset.load(raw / dataset.raw).items()})


@dataclass(frozen=True)
class Split:
    """Images of one split: `images` uint8 `[N, D]`, `labels` int64 `[N]`.

    `redrawn`: pixels are drawn with their grey value as probability each time they are used.
    """

    images: Tensor
    labels: Tensor
    redrawn: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Tensor:
        """The images at `index` as float32 `[B, D]` in [0, 1]; `generator` draws them where they are redrawn."""
        rows = self.images[index] if isinstance(index, slice) else self.images.index_select(0, index)
        grey = rows.float().div_(255)
        return torch.bernoulli(grey, generator=generator) if self.redrawn else grey

    def fixed(self, *key: int | str) -> "Split":
        """The same split with its pixels drawn once and for all, from a generator for `key`."""
        if not self.redrawn:
            return self
        drawn = self.pixels(slice(None), generator(*key, "binarization"))
        return Split(drawn.mul_(255).to(torch.uint8), self.labels)


@dataclass(frozen=True)
class Splits:
    """A data set as a run sees it; the three splits share no image, and are the same for every variant and seed."""

    train: Split
    validation: Split
    test: Split
    shape: tuple[int, int, int]
    classes: int

    @property
    def class_shares(self) -> tuple[float, ...]:
        """p(y): the share of each class among the training labels."""
        counts = torch.bincount(self.train.labels, minlength=self.classes)
        return tuple((counts.double() / len(self.train)).tolist())


def load(data: Path | bytes, name: str, validation_fraction: float) -> Splits:
    """The splits of the data set in `data`, a file that `fetch` made or its content.

    Validation comes out of the training images.

    Raises:
        DataError: the file is missing or damaged, or the training split lacks a class.
    """
    try:
        content = read(data) if isinstance(data, bytes) else load_file(data)
        arrays = {key: torch.from_numpy(value) for key, value in content.items()}
        images, labels = arrays["train_images"].flatten(1), arrays["train_labels"]
        test = Split(arrays["test_images"].flatten(1), arrays["test_labels"])
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run the stage fetch@{name}") from None
    except (SafetensorError, KeyError, ValueError) as error:
        where = "the data set" if isinstance(data, bytes) else data
        raise DataError(f"{where} is damaged ({error}); delete it and run the stage fetch@{name}") from None
    held_out = held_out_images(validation_fraction, len(labels))
    order = torch.randperm(len(labels), generator=generator(name, "validation split"))
    validation, train = order[:held_out], order[held_out:].sort().values
    counts = torch.bincount(labels[train], minlength=len(DATASETS[name].classes))
    if counts.min() < FEWEST_OF_A_CLASS:
        label = int(counts.argmin())
        raise DataError(
            f"{name}: found {counts[label]} training images of class {DATASETS[name].classes[label]}, allowed: "
            f"at least {FEWEST_OF_A_CLASS} of each class; lower data.validation_fraction or add images"
        )
    redrawn = DATASETS[name].binarization == "stochastic"
    return Splits(
        train=Split(images[train], labels[train], redrawn),
        validation=Split(images[validation], labels[validation], redrawn).fixed(name, "validation"),
        test=Split(test.images, test.labels, redrawn).fixed(name, "test"),
        shape=DATASETS[name].shape,
        classes=len(DATASETS[name].classes),
    )
