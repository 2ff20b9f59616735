"""The user's own data sets: an archive `NAME.npz` or a folder of images `NAME/` in `datasets/`, without any code.

Whatever is wrong with one ends in a line that names the file, what was found and what is allowed. Nothing is unpickled,
no link is followed out of the folder, and no more memory is taken than a file's size justifies.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aebench.config import NAME
from aebench.data import archives, image_folders
from aebench.data.contents import SPLITS, Contents, Labels, stays_inside
from aebench.data.description import Arrays, Binarization
from aebench.errors import DataError
from aebench.randomness import generator

# Where nothing says which images are for testing, one in so many of each class.
TEST_SHARE = 6
# A share of fewer test images says nothing, nor does a class of fewer training images.
FEWEST_TEST_IMAGES, FEWEST_OF_A_CLASS = 10, 2


@dataclass(frozen=True)
class Own:
    """Where one of the user's data sets lies, and how its pixels are used."""

    path: Path
    binarization: Binarization


def find(folders: Iterable[Path], taken: Iterable[str]) -> dict[str, Own]:
    """The data sets in `folders` by name, and each a second time as `NAME_binary`; the first folder that has one wins.

    Raises:
        DataError: two claim one name, or one has a name in `taken`.
    """
    found: dict[str, Own] = {}
    for folder in folders:
        here: dict[str, Own] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.stem if path.suffix == ".npz" else path.name
            if not re.fullmatch(NAME, name) or not (path.is_file() if path.suffix == ".npz" else path.is_dir()):
                continue
            if name in taken:
                raise DataError(f"{path} has the name of a built-in data set, allowed: any other; rename it")
            if name in here:
                raise DataError(
                    f"{path}: found {here[name].path.name} beside it, allowed: one data set a name; rename one"
                )
            here[name] = Own(path, "none")
        for name in list(here):
            if f"{name}_binary" in here:
                raise DataError(
                    f"{here[f'{name}_binary'].path}: that is how {name} with binarised pixels is called, "
                    "allowed: any other name; rename it"
                )
            here[f"{name}_binary"] = Own(here[name].path, "stochastic")
        found = here | found
    return found


def read(path: Path, say: Callable[[str], None]) -> tuple[Arrays, Contents]:
    """Read a data set.

    Args:
        path: an archive or a folder of images.
        say: gets a line about what is left out.

    Returns:
        `{train,test}_images` uint8 `[N, C, H, W]` and `{train,test}_labels` int64 `[N]`, and the files' `Contents`.

    Raises:
        DataError: the first thing that is wrong.
    """
    stays_inside(path, path.parent)
    contents = image_folders.read(path, say) if path.is_dir() else archives.read(path, say)
    images, labels = contents.images, contents.labels
    if "" in images:
        _check_counts(path, contents, "", FEWEST_OF_A_CLASS + 1)
        chosen = _split(labels[""], path.stem)
        images = {split: images[""][chosen[split]] for split in SPLITS}
        labels = {split: labels[""][chosen[split]] for split in SPLITS}
    else:
        _check_counts(path, contents, "train", FEWEST_OF_A_CLASS)
        _check_counts(path, contents, "test", 1)
    if len(labels["test"]) < FEWEST_TEST_IMAGES:
        raise DataError(f"{path}: found {len(labels['test'])} test images, allowed: at least {FEWEST_TEST_IMAGES}")
    arrays: Arrays = {}
    for split in SPLITS:
        arrays |= {f"{split}_images": images[split], f"{split}_labels": labels[split]}
    return arrays, contents


def _check_counts(path: Path, contents: Contents, split: str, fewest: int) -> None:
    counts = np.bincount(contents.labels[split], minlength=len(contents.classes))
    label = int(counts.argmin())
    if counts[label] < fewest:
        what = f"{counts[label]} {split} images".replace("  ", " ")
        raise DataError(f"{path}: found {what} of the class {contents.classes[label]}, allowed: at least {fewest}")


def _split(labels: Labels, name: str) -> dict[str, NDArray[np.int64]]:
    """Which images are for training and which for testing: of each class one in `TEST_SHARE`, drawn by the name."""
    test = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        order = torch.randperm(len(places), generator=generator(name, "test split", int(label))).numpy()
        test.append(places[order[: max(1, round(len(places) / TEST_SHARE))]])
    chosen = np.sort(np.concatenate(test))
    return {"train": np.setdiff1d(np.arange(len(labels)), chosen), "test": chosen}
