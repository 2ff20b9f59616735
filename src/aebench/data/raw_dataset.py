"""What the user's own files hold, and what is allowed of them, in whichever form they come."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aebench.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    **{"train": "train", "training": "train"},
    **{"validation": "validation", "valid": "validation", "val": "validation"},
    **{"test": "test", "testing": "test"},
}
# A split of fewer images says nothing, nor does a class of fewer training images.
SMALLEST_SPLIT, FEWEST_OF_A_CLASS = 10, 2
# The networks see each pixel as a number of its own: larger images are photographs by mistake.
LARGEST = 2**20
# So many classes are named in a line.
_NAMED = 5
# Where a DVC cache keeps a file: under the MD5 of its content, so that only who has it can name it.
_CACHED = re.compile("[0-9a-f]{2}/[0-9a-f]{30}")


@dataclass(frozen=True)
class RawDataset:
    """A data set as its files have it.

    `images` `[N, C, H, W]` and `labels` `[N]` by split, all of them under `train` where the files name no splits; names
    of the classes; and in words, with their number, the files that are not used.
    """

    images: dict[str, Images]
    labels: dict[str, Labels]
    classes: tuple[str, ...]
    not_used: tuple[str, ...] = ()

    def in_words(self) -> str:
        """How many images of which classes there are, and what is not used."""
        labels = np.concatenate(list(self.labels.values()))
        counts = np.bincount(labels, minlength=len(self.classes))
        named = [f"{name} {count}" for name, count in zip(self.classes[:_NAMED], counts, strict=False)]
        if len(counts) > _NAMED:
            named.append(f"… each {' to '.join(map(str, sorted({counts.min(), counts.max()})))}")
        return (
            f"used: {len(labels)} images of {len(counts)} classes ({', '.join(named)}); "
            f"not used: {', '.join(self.not_used) or 'nothing'}"
        )


def split_of(name: str) -> str | None:
    """The split that a folder or an array of this name is, however it is spelt; None where it is none."""
    return _SPELLINGS.get(name.casefold())


def stays_inside(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of `folder`, unless it leads to what its own name says: a file in a DVC cache.

    Raises:
        DataError: `path` is such a link.
    """
    target = path.resolve()
    if not target.is_relative_to(folder.resolve()) and not _CACHED.fullmatch("/".join(target.parts[-2:])):
        raise DataError(f"{path} leads out of {folder.name}/, allowed: files inside it; copy them there")


def check_classes(path: Path, classes: Sequence[str]) -> None:
    """Refuse names that no report could show.

    Raises:
        DataError: there are fewer than two, or one is too long, not printable, or there twice.
    """
    if len(classes) < 2:
        raise DataError(f"{path}: found {len(classes)} classes, allowed: at least 2")
    seen = set[str]()
    for name in classes:
        if not (0 < len(name) <= 40 and name.isprintable()):
            raise DataError(f"{path}: found the class {name[:60]!r}, allowed: 1 to 40 printable characters")
        if name in seen:
            raise DataError(f"{path}: found the class {name} twice, allowed: each once")
        seen.add(name)


def check_size(path: Path, shape: Sequence[int]) -> None:
    """Refuse images of the shape `[H, W]` or `[C, H, W]` where H·W is more than `LARGEST`.

    Raises:
        DataError: it is.
    """
    if math.prod(shape[-2:]) > LARGEST:
        raise DataError(
            f"{path}: found images of {size_in_words(shape)}, allowed: at most {LARGEST:,} pixels; make them smaller"
        )


def size_in_words(shape: Sequence[int]) -> str:
    """A shape in words, e.g. 3 × 28 × 28."""
    return " × ".join(map(str, shape)) or "a single number"
