"""The user's own data sets: an archive `NAME.npz` or a folder of images `NAME/` in `datasets/`, without any code.

Whatever is wrong with one ends in a line that names the file, what was found and what is allowed. Nothing is unpickled,
no link is followed out of the folder, and no more memory is taken than a file's size justifies.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from aebench.config import NAME
from aebench.data import archives, image_folders
from aebench.data.builtin import DATASETS
from aebench.data.description import BINARIZED, Arrays, Binarization, Description, describe
from aebench.data.raw_dataset import FEWEST_OF_A_CLASS, SMALLEST_SPLIT, SPLITS, Labels, RawDataset, stays_inside
from aebench.data.sources import checksum
from aebench.errors import DataError
from aebench.randomness import generator

# Where nothing says which images are for testing, one in so many of each class.
TEST_SHARE = 6


@dataclass(frozen=True)
class UserDataset:
    """Where one of the user's data sets lies, and how its pixels are used.

    Only its files say what its images' `shape` is, (C, H, W), and how many `train_images` there are to hold some out
    of: None where that is not known.
    """

    path: Path
    binarization: Binarization
    shape: tuple[int, int, int] | None = None
    train_images: int | None = None

    def files(self) -> dict[str, str]:
        """By name the SHA-256 of the archive, or that of all images in the folder together.

        Raises:
            DataError: a folder is there twice, by a link, or a link leads out.
            OSError: one cannot be read.
        """
        if self.path.is_dir():
            return {f"{self.path.name}/": image_folders.sha256(self.path)}
        return {self.path.name: checksum(self.path)}

    def as_fetched(self, data: Path) -> "UserDataset":
        """The same with what `data` says, its data file, where that was made of the files as they are now."""
        try:
            with safe_open(data, "np") as arrays:
                images, *shape = arrays.get_slice("train_images").get_shape()
                own_validation = "validation_images" in arrays.keys()  # noqa: SIM118
            if not self.files().items() <= describe(data).files.items():
                return self
        except (DataError, SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError):
            return self
        return replace(self, shape=tuple(shape), train_images=None if own_validation else images)


def find(folders: Iterable[Path]) -> dict[str, UserDataset]:
    """The data sets in `folders` by name, and binarised by the names of `BINARIZED`; the first folder with one wins.

    Raises:
        DataError: two claim one name, or one has the name of a built-in one.
    """
    datasets: dict[str, UserDataset] = {}
    for folder in folders:
        in_folder: dict[str, UserDataset] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.stem if path.suffix == ".npz" else path.name
            if not re.fullmatch(NAME, name) or not (path.is_file() if path.suffix == ".npz" else path.is_dir()):
                continue
            if name in DATASETS:
                raise DataError(f"{path} has the name of a built-in data set, allowed: any other; rename it")
            if name in in_folder:
                raise DataError(
                    f"{path}: found {in_folder[name].path.name} beside it, allowed: one data set a name; rename one"
                )
            in_folder[name] = UserDataset(path, "none")
        for name, (suffix, binarization) in product(list(in_folder), BINARIZED.items()):
            binarised = f"{name}{suffix}"
            if binarised in in_folder:
                raise DataError(
                    f"{in_folder[binarised].path}: that is how {name} with binarised pixels is called, "
                    "allowed: any other name; rename it"
                )
            in_folder[binarised] = UserDataset(in_folder[name].path, binarization)
        datasets = in_folder | datasets
    return datasets


def read(dataset: UserDataset, log: Callable[[str], None]) -> tuple[Arrays, Description]:
    """Read a data set.

    Args:
        dataset: an archive or a folder of images.
        log: gets lines about what is used, what is not, and what was taken for what.

    Returns:
        `{train,test}_images` uint8 `[N, C, H, W]` and `{train,test}_labels` int64 `[N]`, the same of `validation` where
        the files have such a split, and what the data file is to say of itself.

    Raises:
        DataError: the first thing that is wrong.
    """
    path = dataset.path
    stays_inside(path, path.parent)
    try:
        files = dataset.files()
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None
    raw = image_folders.read(path, log) if path.is_dir() else archives.read(path, log)
    log(raw.in_words())
    images, labels, origin = dict(raw.images), dict(raw.labels), dict[str, str]()
    if "validation" in images:
        origin["validation"] = " (its own; data of params.yaml holds out no other)"
    if "test" in raw.images:
        _check_counts(path, raw, "train", FEWEST_OF_A_CLASS)
        _check_counts(path, raw, "test", 1)
    else:
        _check_counts(path, raw, "train", FEWEST_OF_A_CLASS + 1)
        for split, chosen in _split(raw.labels["train"], path.stem).items():
            images[split], labels[split] = raw.images["train"][chosen], raw.labels["train"][chosen]
        origin["test"] = " (a sixth of each class)"
    if (brightest := max(int(of_split.max()) for of_split in images.values())) < 128:
        log(f"the images are dark: their brightest pixel is {brightest} of 255")
    sizes = {split: len(labels[split]) for split in SPLITS if split in labels}
    for split, size in sizes.items():
        if size < SMALLEST_SPLIT:
            raise DataError(f"{path}: found {size} {split} images, allowed: at least {SMALLEST_SPLIT}")
    log(", ".join(f"{split} {size} images{origin.get(split, '')}" for split, size in sizes.items()))
    arrays: Arrays = {}
    for split in sizes:
        arrays |= {f"{split}_images": images[split], f"{split}_labels": labels[split]}
    return arrays, Description(images["train"].shape[1:], raw.classes, dataset.binarization, files)


def _check_counts(path: Path, raw: RawDataset, split: str, fewest: int) -> None:
    counts = np.bincount(raw.labels[split], minlength=len(raw.classes))
    label = int(counts.argmin())
    if counts[label] < fewest:
        of_split = f"{split} images" if "test" in raw.images else "images"
        raise DataError(
            f"{path}: found {counts[label]} {of_split} of the class {raw.classes[label]}, allowed: at least {fewest}"
        )


def _split(labels: Labels, name: str) -> dict[str, NDArray[np.int64]]:
    """Which images are for training and which for testing: of each class one in `TEST_SHARE`, drawn by the name."""
    test = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        order = torch.randperm(len(places), generator=generator(name, "test split", int(label))).numpy()
        test.append(places[order[: max(1, round(len(places) / TEST_SHARE))]])
    chosen = np.sort(np.concatenate(test))
    return {"train": np.setdiff1d(np.arange(len(labels)), chosen), "test": chosen}
