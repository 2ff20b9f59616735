"""CIFAR-10: pickles in a gzipped tar archive, of which only the data are read."""

import io
import tarfile
from pathlib import Path

import numpy as np

from aebench.data.description import Arrays
from aebench.data.published import pickled
from aebench.data.unpacking import from_tar, inflate

ARCHIVE = "cifar-10-python.tar.gz"
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
# More than what the archive unpacks to.
LIMIT = 2**28


def load(folder: Path) -> Arrays:
    """The images, whose files have all red values first, then green and blue, and their labels."""
    arrays: Arrays = {}
    unpacked = io.BytesIO(inflate((folder / ARCHIVE).read_bytes(), LIMIT))
    with tarfile.open(fileobj=unpacked, mode="r:") as archive:
        for split, names in BATCHES.items():
            batches = [pickled.read(from_tar(archive, f"cifar-10-batches-py/{name}")) for name in names]
            images = [pickled.array_of_bytes(batch[b"data"]) for batch in batches]
            arrays[f"{split}_images"] = np.concatenate(images).reshape(-1, 3, 32, 32)
            arrays[f"{split}_labels"] = np.concatenate([np.array(batch[b"labels"], np.int64) for batch in batches])
    return arrays
