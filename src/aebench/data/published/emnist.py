"""EMNIST's letters: IDX files, each gzipped, in one zip archive with the other splits of EMNIST."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from aebench.data.description import Arrays
from aebench.data.published.mnist import LIMIT, idx
from aebench.data.unpacking import from_zip, inflate

ARCHIVE = "gzip.zip"


def load_letters(folder: Path) -> Arrays:
    """The letters, without their case. They lie on their side in the files, and are labelled from 1."""
    with ZipFile(folder / ARCHIVE) as archive:

        def read(name: str, dimensions: int) -> NDArray[np.uint8]:
            packed = from_zip(archive, f"gzip/emnist-letters-{name}.gz", LIMIT)
            return idx(name, inflate(packed, LIMIT), dimensions)

        arrays: Arrays = {}
        for split in ("train", "test"):
            arrays[f"{split}_images"] = read(f"{split}-images-idx3-ubyte", 3)[:, None].swapaxes(2, 3)
            arrays[f"{split}_labels"] = read(f"{split}-labels-idx1-ubyte", 1).astype(np.int64) - 1
        return arrays
