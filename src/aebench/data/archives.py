"""Data sets as NumPy archives. Nothing is unpickled, and no array is allocated that the file cannot hold."""

import hashlib
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebench.data.raw_dataset import (
    SPLITS,
    Images,
    Labels,
    RawDataset,
    check_classes,
    check_size,
    reason,
    size_in_words,
)
from aebench.errors import DataError

# Deflate packs no more than this into a byte.
DEFLATE = 1032


def read(path: Path, log: Callable[[str], None]) -> RawDataset:
    """Read an archive of the arrays `{train,test}_images` and `_labels`, or `images` and `labels`, and maybe `classes`.

    Images are uint8 `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]`, C 1 or 3, labels whole numbers `[N]` or `[N, 1]`.

    Args:
        path: the archive.
        log: gets a line about what is not used.

    Raises:
        DataError: the first thing that is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if sum(info.compress_size for info in members.values()) > path.stat().st_size:
                raise ValueError("its parts overlap")
            wanted = _wanted(path, members)
            found = {name: _member(archive, members[name]) for name in wanted}
    except DataError:
        raise
    except Exception as error:  # the readers of archives and of their headers fail in many ways
        raise DataError(f"{path} cannot be read as a NumPy archive: {reason(error)}") from None
    if left_out := sorted(set(members) - set(wanted)):
        log(f"{path.name}: not used: {', '.join(left_out)}")
    parts = {name: name.removesuffix("images").rstrip("_") for name in wanted if name.endswith("images")}
    images = {part: _images(path, name, found[name]) for name, part in parts.items()}
    names = {part: name.replace("images", "labels") for name, part in parts.items()}
    labels = {part: _labels(path, name, found[name], len(images[part])) for part, name in names.items()}
    shapes = sorted({array.shape[1:] for array in images.values()})
    if len(shapes) > 1:
        raise DataError(f"{path}: found images of {' and '.join(map(size_in_words, shapes))}, allowed: one size")
    classes = _classes(path, found.get("classes"), np.concatenate(list(labels.values())))
    return RawDataset(images, labels, classes, {path.name: hashlib.sha256(path.read_bytes()).hexdigest()})


def _wanted(path: Path, members: Iterable[str]) -> list[str]:
    names = set(members)
    whole, parted = ("images", "labels"), tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))
    for allowed in (parted, whole):
        if names.issuperset(allowed):
            return [*allowed, *({"classes"} & names)]
    raise DataError(
        f"{path}: found the arrays {', '.join(sorted(names)) or 'none'}, "
        f"allowed: {', '.join(parted)}, or images, labels; and classes"
    )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, of which no byte is allocated before the header is known to agree with the file."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is neither stored nor deflated")
    if info.file_size > DEFLATE * info.compress_size + DEFLATE:
        raise ValueError(f"{info.filename} claims more bytes than its {info.compress_size} packed ones can hold")
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in headers:
            raise ValueError(f"{info.filename} has a header of version {version[0]}.{version[1]}")
        shape, _, dtype = headers[version](stream)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects, which are not unpickled")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
            raise ValueError(f"{info.filename} claims the shape {shape}, which its size contradicts")
    with archive.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _images(path: Path, name: str, array: NDArray[Any]) -> Images:
    """As `[N, C, H, W]`."""
    if array.dtype != np.uint8:
        raise DataError(f"{path}: {name}: found numbers of type {array.dtype}, allowed: uint8, 0 (black) to 255")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        shape = " × ".join(map(str, array.shape))
        raise DataError(
            f"{path}: {name}: found {shape}, allowed: [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3"
        )
    if array.size == 0:
        raise DataError(f"{path}: {name}: found no images, allowed: at least one")
    check_size(path, array.shape[1:])
    return np.ascontiguousarray(array)


def _labels(path: Path, name: str, array: NDArray[Any], images: int) -> Labels:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name}: found numbers of type {array.dtype}, allowed: whole numbers, 0 for the first class"
        )
    if array.shape != (images,):
        raise DataError(
            f"{path}: {name}: found {size_in_words(array.shape)}, allowed: one for each of the {images} images"
        )
    return array.astype(np.int64)


def _classes(path: Path, named: NDArray[Any] | None, labels: Labels) -> tuple[str, ...]:
    if named is not None:
        if named.ndim != 1 or named.dtype.kind != "U":
            raise DataError(f"{path}: classes: found {named.dtype} of {named.ndim} dimensions, allowed: a list of text")
        classes = tuple(map(str, named))
    else:
        # Not from the largest label: it may be any number.
        classes = tuple(map(str, range(len(np.unique(labels)))))
    check_classes(path, classes)
    for label in (labels.min(), labels.max()):
        if not 0 <= label < len(classes):
            raise DataError(f"{path}: found the label {label}, allowed: 0 to {len(classes) - 1}, one for each class")
    return classes
