"""The data sets: one entry each in one table, and what a run sees of one."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read
from safetensors.numpy import load_file
from torch import Tensor

from aebench.data import user_datasets
from aebench.data.description import Arrays, Binarization, Description, describe, write
from aebench.data.raw_dataset import FEWEST_OF_A_CLASS, SMALLEST_SPLIT
from aebench.data.sources import RawFile, Source, debian_package, local_folder, obtain, torchvision_mirrors
from aebench.errors import DataError
from aebench.extras import require
from aebench.randomness import generator


@dataclass(frozen=True)
class Dataset:
    """One built-in data set; its fields are those of `Description`, and where its images come from."""

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
    require(__name__, "sklearn")
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


Labelled = tuple[Tensor, Tensor]
"""Images `[N, D]` and labels `[N]`."""


class DatasetFacts(NamedTuple):
    """What the check of params.yaml must know of a data set.

    `train_images` and `shape`, (C, H, W), are None where only the files say it.
    """

    train_images: int | None
    shape: tuple[int, int, int] | None
    binarized: bool


def facts(folders: Iterable[Path]) -> dict[str, DatasetFacts]:
    """What the check of params.yaml must know of each data set: the built-in ones and those in the user's `folders`.

    Raises:
        DataError: two have one name.
    """
    built_in = {
        name: DatasetFacts(dataset.train_images, dataset.shape, dataset.binarization != "none")
        for name, dataset in DATASETS.items()
    }
    found = user_datasets.find(folders, taken=DATASETS)
    return built_in | {name: DatasetFacts(None, None, one.binarization != "none") for name, one in found.items()}


def fetch(
    name: str, raw: Path, source_dir: Path | None, log: Callable[[str], None], folders: Iterable[Path] = ()
) -> bytes:
    """A data set as the content of a safetensors file, in which its description stands too.

    Args:
        name: a key of `DATASETS`, or the name of a data set in `folders`.
        raw: the folder that holds the folders of raw files.
        source_dir: the user's folder, looked into before any network.
        log: gets one line for every source that was tried.
        folders: where the user's own data sets lie.

    Raises:
        DataError: no source has the files, or the user's files are not in order.
    """
    if name not in DATASETS:
        user_dataset = user_datasets.find(folders, taken=DATASETS)[name]
        arrays, found = user_datasets.read(user_dataset.path, log)
        shape = arrays["train_images"].shape[1:]
        return write(arrays, Description(shape, found.classes, user_dataset.binarization, found.files))
    dataset = DATASETS[name]
    first = (local_folder(source_dir, f"execution.source_dir {source_dir}"),) if source_dir else ()
    obtain(dataset.files, raw / dataset.raw, (*first, *dataset.sources()), log)
    files = {file.name: file.sha256 for file in dataset.files}
    description = Description(dataset.shape, dataset.classes, dataset.binarization, files)
    return write(dataset.load(raw / dataset.raw), description)


@dataclass(frozen=True)
class Split:
    """Images of one split: `images` uint8 `[N, D]`, 0 (black) to 255, `labels` int64 `[N]`.

    `dynamic_binarization`: each time they are used, pixels are drawn as 0 or 1 with their grey value as probability.
    """

    images: Tensor
    labels: Tensor
    dynamic_binarization: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Tensor:
        """The images at `index` as float32 `[B, D]` in [0, 1]; `generator` draws them where binarization is dynamic."""
        rows = self.images[index] if isinstance(index, slice) else self.images.index_select(0, index)
        grey = rows.float().div_(255)
        return torch.bernoulli(grey, generator=generator) if self.dynamic_binarization else grey

    def to(self, device: torch.device) -> "Split":
        """The same split on a device; dynamic binarization draws on the CPU, and must be fixed before."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def fixed(self, *key: int | str) -> "Split":
        """The same split; dynamic binarization is made static, drawn once and for all from a generator for `key`."""
        if not self.dynamic_binarization:
            return self
        drawn = self.pixels(slice(None), generator(*key, "binarization"))
        return Split(drawn.mul_(255).to(torch.uint8), self.labels)


@dataclass(frozen=True)
class Splits:
    """A data set as a run sees it; the three splits share no image, and are the same for every variant and seed.

    `shape`: of an image, (C, H, W). `classes`: how many. `own_validation`: the data set brought its validation
    split, and none was drawn.
    """

    train: Split
    validation: Split
    test: Split
    shape: tuple[int, int, int]
    classes: int
    binarization: Binarization = "none"
    own_validation: bool = False

    def to(self, device: torch.device) -> "Splits":
        """The same splits on a device; the training images' dynamic binarization is fixed before."""
        train = self.train.fixed("train")
        return replace(self, train=train.to(device), validation=self.validation.to(device), test=self.test.to(device))

    @property
    def class_shares(self) -> tuple[float, ...]:
        """p(y) `[C]`: the share of each class among the training labels."""
        counts = torch.bincount(self.train.labels, minlength=self.classes)
        return tuple((counts.double() / len(self.train)).tolist())


def held_out_images(validation_fraction: float, train_images: int) -> int:
    """How many of the training images are validation images, rounded to the nearest whole number."""
    return round(validation_fraction * train_images)


def load(data: Path | bytes, name: str, validation_fraction: float) -> Splits:
    """The splits of the data set in `data`, a file that `fetch` made or its content.

    Validation is the data set's own, or comes out of the training images. Where pixels are binarised, those of
    validation and test are fixed, and those of training are binarized dynamically.

    Raises:
        DataError: the file is missing or damaged, training or validation is too small, or training has too few images
            of a class.
    """
    try:
        content = read(data) if isinstance(data, bytes) else load_file(data)
        about = describe(data)
        train, test = (_labelled(content, split, about) for split in ("train", "test"))
        own = _labelled(content, "validation", about) if "validation_images" in content else None
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run `dvc repro fetch@{name}`") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        where = "the data set" if isinstance(data, bytes) else data
        raise DataError(
            f"{where} is damaged ({_in_words(error)}); delete it and run `dvc repro fetch@{name}`"
        ) from None
    train, validation = (train, own) if own else _hold_out(*train, name, validation_fraction)
    counts = torch.bincount(train[1], minlength=len(about.classes))
    if counts.min() < FEWEST_OF_A_CLASS:
        label = int(counts.argmin())
        raise DataError(
            f"{name}: found {counts[label]} training images of class {about.classes[label]}, allowed: "
            f"at least {FEWEST_OF_A_CLASS} of each class; add images"
        )
    dynamic = about.binarization == "stochastic"
    return Splits(
        train=Split(*train, dynamic),
        validation=Split(*validation, dynamic).fixed(name, "validation"),
        test=Split(*test, dynamic).fixed(name, "test"),
        shape=about.shape,
        classes=len(about.classes),
        binarization=about.binarization,
        own_validation=own is not None,
    )


def _hold_out(images: Tensor, labels: Tensor, name: str, fraction: float) -> tuple[Labelled, Labelled]:
    """Training and validation images with their labels, drawn by the data set's name.

    Where the draw would leave fewer than `FEWEST_OF_A_CLASS` images of a class for training, others take their place.
    """
    order = torch.randperm(len(labels), generator=generator(name, "validation split")).numpy()
    free = order[~_last_of_each_class(labels.numpy()[order])]
    validation = free[: held_out_images(fraction, len(labels))]
    train = np.setdiff1d(order, validation)
    if (len(validation) < SMALLEST_SPLIT and fraction > 0) or len(train) < SMALLEST_SPLIT:
        enough = len(free) >= SMALLEST_SPLIT and len(labels) >= 2 * SMALLEST_SPLIT
        share = math.ceil(100 * SMALLEST_SPLIT / len(labels)) / 100 if enough else None
        raise DataError(
            f"{name}: found {len(labels)} training images, of which data.validation_fraction takes {len(validation)}, "
            f"allowed: at least {SMALLEST_SPLIT} on both sides; "
            + (f"set data.validation_fraction to {share:g}" if share else "add images")
        )
    return (images[train], labels[train]), (images[validation], labels[validation])


def _last_of_each_class(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a label `[N]` is among the last `FEWEST_OF_A_CLASS` of its class."""
    by_class, counts = labels.argsort(kind="stable"), np.bincount(labels)
    found = np.zeros(len(labels), bool)
    for place in range(1, FEWEST_OF_A_CLASS + 1):
        found[by_class[(counts.cumsum() - place)[counts >= place]]] = True
    return found


def _labelled(content: Mapping[str, NDArray[np.generic]], split: str, about: Description) -> Labelled:
    """Images `[N, D]` and labels `[N]` of one split, which agree with each other and with the description."""
    images, labels = content[f"{split}_images"], content[f"{split}_labels"]
    if images.dtype != np.uint8 or images.shape[1:] != about.shape or labels.dtype != np.int64:
        raise ValueError(f"{split}_images: found {images.dtype} of shape {images.shape}")
    if labels.shape != images.shape[:1] or not np.isin(labels, np.arange(len(about.classes))).all():
        raise ValueError(f"{split}_labels do not fit the images and the classes")
    return torch.from_numpy(images).flatten(1), torch.from_numpy(labels)


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if words.isprintable() and len(words) < 200 else ascii(words[:200])
