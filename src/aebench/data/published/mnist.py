"""MNIST's four files of the format IDX, and those of the data sets that took its form and its names."""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aebench.data.description import Arrays
from aebench.data.unpacking import inflate

# More than twice what the largest of these files unpacks to.
LIMIT = 2**28


def load(folder: Path, suffix: str = "") -> Arrays:
    """The images and labels in `folder`; the files are gzipped where `suffix` is `.gz`."""

    def read(name: str, dimensions: int) -> NDArray[np.uint8]:
        content = (folder / f"{name}{suffix}").read_bytes()
        return idx(name, inflate(content, LIMIT) if suffix else content, dimensions)

    return {
        "train_images": read("train-images-idx3-ubyte", 3)[:, None],
        "train_labels": read("train-labels-idx1-ubyte", 1).astype(np.int64),
        "test_images": read("t10k-images-idx3-ubyte", 3)[:, None],
        "test_labels": read("t10k-labels-idx1-ubyte", 1).astype(np.int64),
    }


def idx(name: str, content: bytes, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of bytes: a number that says so, the size of each dimension, and the values.

    Raises:
        ValueError: it is none, or not of so many dimensions.
    """
    header = struct.Struct(f">{1 + dimensions}I")
    kind, *shape = header.unpack_from(content) if len(content) >= header.size else (0,)
    if kind != 0x800 + dimensions or math.prod(shape) != len(content) - header.size:
        raise ValueError(f"{name} is no IDX file of bytes in {dimensions} dimensions")
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
