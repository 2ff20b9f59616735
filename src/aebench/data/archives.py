"""Data sets as NumPy archives. Nothing is unpickled, and no array is allocated that the file cannot hold."""

import io
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from aebench.data import conversions
from aebench.data.raw_dataset import SPLITS, RawDataset, split_of
from aebench.errors import DataError, plain

# What an array may be, and how Keras calls it.
_WHATS = ("images", "labels", "classes")
_SPELLINGS = {"x": "images", "y": "labels"}
# What reads the header of a file, by its version.
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path, log: Callable[[str], None]) -> RawDataset:
    """Read an archive of the arrays `SPLIT_images` and `SPLIT_labels`, or `images` and `labels`, and maybe `classes`.

    What the arrays may be is said by `conversions`.

    Args:
        path: the archive.
        log: gets a line for each thing that was taken for another.

    Raises:
        DataError: the first thing that is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if sum(info.compress_size for info in members.values()) > path.stat().st_size:
                raise ValueError("its parts overlap")
            roles = _roles(path, members)
            arrays = {name: _member(archive, members[name]) for name in roles.values()}
    except DataError:
        raise
    except Exception as error:  # the readers of archives and of their headers fail in many ways
        raise DataError(f"{path} cannot be read as a NumPy archive: {plain(error)}") from None
    splits = [split for split, what in roles if what == "images"]
    of_images, of_labels = ({split: roles[split, what] for split in splits} for what in ("images", "labels"))
    for split, name in of_images.items():
        if name not in ("images", f"{split}_images"):
            log(f"{name} and {of_labels[split]} are images and labels" + (f" of {split}" if split else ""))
    images = conversions.images(path, {name: arrays[name] for name in of_images.values()}, log)
    counts = {of_labels[split]: len(images[name]) for split, name in of_images.items()}
    labels, classes = conversions.labels(
        path, {name: arrays[name] for name in counts}, arrays.get(roles.get(("", "classes"), "")), counts, log
    )
    return RawDataset(
        {split or "train": images[name] for split, name in of_images.items()},
        {split or "train": labels[name] for split, name in of_labels.items()},
        classes,
        tuple(f"the array {plain(name)}" for name in sorted(set(members) - set(arrays))),
    )


def _roles(path: Path, members: Iterable[str]) -> dict[tuple[str, str], str]:
    """The names of the arrays that are used, by split (empty where it is none) and `images`, `labels` or `classes`."""
    roles: dict[tuple[str, str], str] = {}
    for name in members:
        if role := _role(name):
            if role in roles:
                raise DataError(f"{path}: found the arrays {roles[role]} and {name}, allowed: one of them")
            roles[role] = name
    splits = {split for split, what in roles if what != "classes"}
    complete = all((split, what) in roles for split in splits for what in ("images", "labels"))
    if not complete or not (splits == {""} or ("train" in splits and "" not in splits)):
        raise DataError(
            f"{path}: found the arrays {', '.join(map(plain, sorted(members))) or 'none'}, "
            "allowed: train_images, train_labels, test_images, test_labels and maybe validation_images, "
            "validation_labels, or images, labels; and classes"
        )
    return {(split, what): roles[split, what] for split in ("", *SPLITS) for what in _WHATS if (split, what) in roles}


def _role(name: str) -> tuple[str, str] | None:
    """The split that an array is of and what it is; None where it is not used."""
    words = name.casefold().split("_")
    for *before, what in (words, words[::-1]):
        what = _SPELLINGS.get(what, what)
        if not before and what in _WHATS:
            return "", what
        if len(before) == 1 and what in _WHATS[:2] and (split := split_of(before[0])):
            return split, what
    return None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others pack far more into a byte
        raise ValueError(f"{info.filename} is neither stored nor deflated")
    return array(info.filename, archive.read(info))


def array(name: str, content: bytes) -> NDArray[Any]:
    """The array in the content of a NumPy file, whose memory it shares.

    Args:
        name: of the file, for messages.
        content: of the file.

    Raises:
        ValueError: it is damaged, or holds Python objects.
    """
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name} has a header of version {version[0]}.{version[1]}")
    shape, by_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not unpickled; save text with dtype=str")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{name} claims the shape {shape}, which its size contradicts")
    return np.ndarray(shape, dtype, content, stream.tell(), order="F" if by_columns else "C")
