"""SVHN: cropped house numbers, in files of MATLAB's format 5."""

import struct
from pathlib import Path

import numpy as np

from aebench.data.description import Arrays
from aebench.data.unpacking import inflate

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
# More than what the larger file unpacks to.
LIMIT = 2**28
# The file's header; then each element begins with its kind, of which one is compressed, and its size.
_HEADER, _TAG, _COMPRESSED = 128, struct.Struct("<2I"), 15


def load(folder: Path) -> Arrays:
    """Images, and digits as their labels; in the files 0 is labelled 10."""
    from scipy.io import loadmat

    arrays: Arrays = {}
    for split, name in FILES.items():
        check_size(name, (folder / name).read_bytes())
        content = loadmat(folder / name, variable_names=["X", "y"])
        arrays[f"{split}_images"] = content["X"].transpose(3, 2, 0, 1)
        arrays[f"{split}_labels"] = content["y"].reshape(-1).astype(np.int64) % 10
    return arrays


def check_size(name: str, content: bytes) -> None:
    """Refuse a file of which an element unpacks to more than `LIMIT` bytes: SciPy would unpack it.

    Raises:
        ValueError: it is such a file, or a damaged one.
    """
    place = _HEADER
    while place + _TAG.size <= len(content):
        kind, size = _TAG.unpack_from(content, place)
        place += _TAG.size + size
        if kind == _COMPRESSED and len(inflate(content[place - size : place], LIMIT)) > LIMIT:
            raise ValueError(f"{name} unpacks to more than {LIMIT} bytes")
