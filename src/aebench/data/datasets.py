"""The data sets, built-in ones and the user's own, and what a run sees of one."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read
from safetensors.numpy import load_file
from torch import Tensor

from aebench.config import Data
from aebench.data import user_datasets
from aebench.data.binarization import binarized
from aebench.data.builtin import DATASETS, Dataset
from aebench.data.description import Arrays, Binarization, Description, Pair, describe, write
from aebench.data.outside import pair, require_one_shape
from aebench.data.raw_dataset import FEWEST_OF_A_CLASS, SMALLEST_SPLIT
from aebench.data.sources import checksum, local_folder, obtain
from aebench.data.user_datasets import UserDataset
from aebench.errors import ConfigError, DataError, plain
from aebench.extras import MissingPackage
from aebench.randomness import generator

Labelled = tuple[Tensor, Tensor]
"""Images `[N, D]` and labels `[N]`."""
KnownDataset = Dataset | UserDataset


def known_datasets(folders: Iterable[Path]) -> dict[str, KnownDataset]:
    """All data sets that are no pair: the built-in ones and those in the user's `folders`.

    Raises:
        DataError: two have one name.
    """
    return {**DATASETS, **user_datasets.find(folders)}


def named_dataset(name: str, among: Mapping[str, KnownDataset]) -> KnownDataset:
    """The data set of a name; of NAME_vs_OTHER, the first of the two.

    Raises:
        KeyError: with the name that no data set has, the whole one or a part of it.
        DataError: two data sets do not make a pair.
    """
    both = _pair(name, among)
    if both is None:
        return among[name]
    inside, outside = among[both.inside], among[both.outside]
    if inside.shape and outside.shape:
        require_one_shape(both, inside.shape, outside.shape)
    return inside


def _pair(name: str, among: Mapping[str, KnownDataset]) -> Pair | None:
    return pair(name, {each: dataset.binarization != "none" for each, dataset in among.items()})


def fetch(
    name: str, raw: Path, source_dir: Path | None, log: Callable[[str], None], folders: Iterable[Path] = ()
) -> bytes:
    """A data set as the content of a safetensors file, in which its description stands too.

    Args:
        name: a key of `DATASETS`, the name of a data set in `folders`, or NAME_vs_OTHER with two of these.
        raw: the folder that holds the folders of raw files.
        source_dir: the user's folder, looked into before any network, and before it one in it of the raw files' name.
        log: gets one line for every source that was tried.
        folders: where the user's own data sets lie.

    Raises:
        DataError: no source has the files, the user's files are not in order, or two data sets do not make a pair.
        KeyError: there is no such data set.
    """
    among = known_datasets(folders)

    def one(name: str, log: Callable[[str], None]) -> tuple[Arrays, Description]:
        dataset = among[name]
        if isinstance(dataset, UserDataset):
            arrays, about = user_datasets.read(dataset, log)
        else:
            arrays, about = _fetch_built_in(name, dataset, raw, source_dir, log)
        return binarized(arrays, about.binarization, name), about

    both = _pair(name, among)
    if both is None:
        return write(*one(name, log))
    arrays, about = one(both.inside, log)
    others, other = one(both.outside, lambda line: log(f"{both.outside}: {line}"))
    require_one_shape(both, about.shape, other.shape)
    files = about.files | {f"{both.outside}/{file}": sha256 for file, sha256 in other.files.items()}
    return write(arrays | {"outside_images": others["test_images"]}, replace(about, files=files, pair=both))


def _fetch_built_in(
    name: str, dataset: Dataset, raw: Path, source_dir: Path | None, log: Callable[[str], None]
) -> tuple[Arrays, Description]:
    folder = raw / dataset.raw
    # Files of several data sets have the same names; whoever has more than one of them puts each into its own folder.
    own = [source_dir / dataset.raw, source_dir] if source_dir else []
    first = [local_folder(place) for place in own if place == source_dir or place.is_dir()]
    obtain(dataset.files, folder, (*first, *dataset.sources), log)
    try:
        arrays = dataset.load(folder)
    except MissingPackage:
        raise
    except Exception as error:  # readers of many formats fail in many ways
        raise DataError(f"{name}: the files in {folder} cannot be read: {plain(error)}") from None
    files = {file.name: checksum(folder / file.name) for file in dataset.files}
    return arrays, Description(dataset.shape, dataset.classes, dataset.binarization, files)


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
    split, and none was drawn. `outside`: images of another data set, without its labels: they are −1, no class.
    """

    train: Split
    validation: Split
    test: Split
    shape: tuple[int, int, int]
    classes: int
    binarization: Binarization = "none"
    own_validation: bool = False
    outside: Split | None = None

    def to(self, device: torch.device) -> "Splits":
        """The same splits on a device; the training images' dynamic binarization is fixed before."""
        train, outside = self.train.fixed("train"), None if self.outside is None else self.outside.to(device)
        moved = replace(self, train=train.to(device), validation=self.validation.to(device), test=self.test.to(device))
        return replace(moved, outside=outside)

    @property
    def class_shares(self) -> tuple[float, ...]:
        """p(y) `[C]`: the share of each class among the training labels."""
        counts = torch.bincount(self.train.labels, minlength=self.classes)
        return tuple((counts.double() / len(self.train)).tolist())


def load(data: Path | bytes, name: str, held_out: Data | float) -> Splits:
    """The splits of the data set `name`.

    Where pixels are drawn with each use, those of validation and test are fixed here. What is drawn of NAME_vs_OTHER is
    what is drawn of NAME, and of its outside images what is drawn of OTHER's test images.

    Args:
        data: a file that `fetch` made, or its content.
        name: of the data set.
        held_out: which of the training images are for validation, where the data set brings none: the block `data` of
            params.yaml, or a share of them, drawn at random.

    Raises:
        ConfigError: more images are to be held out than leave enough of each class.
        DataError: the file is missing or damaged, training or validation is too small, or training has too few images
            of a class.
    """
    try:
        content = read(data) if isinstance(data, bytes) else load_file(data)
        about = describe(data)
        train, test = (_labelled(content, split, about) for split in ("train", "test"))
        own = _labelled(content, "validation", about) if "validation_images" in content else None
        outside = _outside(content, about)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run `dvc repro fetch@{name}`") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        where = "the data set" if isinstance(data, bytes) else data
        raise DataError(f"{where} is damaged ({plain(error)}); delete it and run `dvc repro fetch@{name}`") from None
    if about.pair:
        name = about.pair.inside
    held_out = held_out if isinstance(held_out, Data) else Data(validation_fraction=held_out)
    train, validation = (train, own) if own else _hold_out(*train, name, held_out)
    counts = torch.bincount(train[1], minlength=len(about.classes))
    if counts.min() < FEWEST_OF_A_CLASS:
        label, last = int(counts.argmin()), own is None and held_out.validation == "last"
        raise DataError(
            f"{name}: found {counts[label]} training images of class {about.classes[label]}, allowed: "
            f"at least {FEWEST_OF_A_CLASS} of each class; add images{', or set data.validation to random' * last}"
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
        outside=outside,
    )


def _hold_out(images: Tensor, labels: Tensor, name: str, held_out: Data) -> tuple[Labelled, Labelled]:
    """Training and validation images with their labels.

    Validation images are the last ones, or drawn by the data set's name. Where the draw would leave fewer than
    `FEWEST_OF_A_CLASS` images of a class for training, others take their place.
    """
    wanted = held_out.images(len(labels))
    if held_out.validation == "last":
        free = np.arange(len(labels))
        validation = free[max(0, len(labels) - wanted) :]
    else:
        order = torch.randperm(len(labels), generator=generator(name, "validation split")).numpy()
        free = order[~_last_of_each_class(labels.numpy()[order])]
        validation = free[:wanted]
        if held_out.validation_images is not None and len(free) < wanted:
            raise ConfigError(
                f"data.validation_images: found {wanted}, allowed: at most {len(free)} of the {len(labels)} training "
                f"images of {name}, so that {FEWEST_OF_A_CLASS} of each class are left"
            )
    train = np.setdiff1d(np.arange(len(labels)), validation)
    if (held_out.any and len(validation) < SMALLEST_SPLIT) or len(train) < SMALLEST_SPLIT:
        enough = len(free) >= SMALLEST_SPLIT and len(labels) >= 2 * SMALLEST_SPLIT
        share = math.ceil(100 * SMALLEST_SPLIT / len(labels)) / 100
        mend = f"set data.{held_out.key} to {SMALLEST_SPLIT if held_out.validation_images else f'{share:g}'}"
        raise DataError(
            f"{name}: found {len(labels)} training images, of which data.{held_out.key} takes {len(validation)}, "
            f"allowed: at least {SMALLEST_SPLIT} on both sides; {mend if enough else 'add images'}"
        )
    return (images[train], labels[train]), (images[validation], labels[validation])


def _last_of_each_class(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a label `[N]` is among the last `FEWEST_OF_A_CLASS` of its class."""
    among_last = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        among_last[np.flatnonzero(labels == label)[-FEWEST_OF_A_CLASS:]] = True
    return among_last


def _labelled(content: Mapping[str, NDArray[np.generic]], split: str, about: Description) -> Labelled:
    """Images `[N, D]` and labels `[N]` of one split, which agree with each other and with the description."""
    images, labels = _images(content, split, about), content[f"{split}_labels"]
    if labels.dtype != np.int64 or labels.shape != (len(images),):
        raise ValueError(f"{split}_labels: found {labels.dtype} of shape {labels.shape}")
    if not np.isin(labels, np.arange(len(about.classes))).all():
        raise ValueError(f"{split}_labels do not fit the classes")
    return images, torch.from_numpy(labels)


def _outside(content: Mapping[str, NDArray[np.generic]], about: Description) -> Split | None:
    """The test images of a pair's other data set, drawn as that one draws them; None where there is no pair."""
    if about.pair is None:
        return None
    images, dynamic = _images(content, "outside", about), about.binarization == "stochastic"
    return Split(images, torch.full((len(images),), -1), dynamic).fixed(about.pair.outside, "test")


def _images(content: Mapping[str, NDArray[np.generic]], split: str, about: Description) -> Tensor:
    """Images `[N, D]` of one split, which agree with the description."""
    images = content[f"{split}_images"]
    if images.dtype != np.uint8 or images.shape[1:] != about.shape:
        raise ValueError(f"{split}_images: found {images.dtype} of shape {images.shape}")
    return torch.from_numpy(images).flatten(1)
