"""What a data file says of itself, in its header: whoever has the file needs no table beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.numpy import save

Arrays = dict[str, NDArray[np.generic]]
Binarization = Literal["none", "stochastic", "fixed", "threshold"]
BINARIZED: Mapping[str, Binarization] = {
    "_binary": "stochastic",
    "_binary_fixed": "fixed",
    "_binary_threshold": "threshold",
}
"""The ways to binarise the pixels of a data set, by what its name then ends with."""

# safetensors keeps several entries in no order, so that the same content would not be the same bytes: it has one.
_ENTRY = "aebench"


class Pair(NamedTuple):
    """Of NAME_vs_OTHER: the data set whose images a model learns, and that of the outside images."""

    inside: str
    outside: str


@dataclass(frozen=True)
class Description:
    """One data set, as its data file describes it.

    `shape` is that of an image, (C, H, W); `classes` are their names, in the order of the labels; `binarization` is how
    the pixels are used; `files` are the SHA-256 of the raw files by name; `pair` is None without outside images.

    Pixels are grey in [0, 1] (`none`), or each is 1 with its grey value as probability: drawn anew in each epoch of
    training, once and for all in validation and test (`stochastic`; Salakhutdinov & Murray 2008), or once and for all
    everywhere (`fixed`; Larochelle & Murray 2011). Or each is 1 from a grey value of 0.5 on (`threshold`). What is the
    same everywhere is what the data file holds.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    binarization: Binarization
    files: dict[str, str]
    pair: Pair | None = None

    def as_json(self) -> dict[str, Any]:
        """For JSON; without a pair where there is none."""
        return {key: value for key, value in asdict(self).items() if key != "pair" or value}


_DESCRIPTION = TypeAdapter(Description)


def write(arrays: Arrays, description: Description) -> bytes:
    """Arrays and their description as the content of a safetensors file, the same bytes for the same values."""
    content = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return save(content, {_ENTRY: json.dumps(description.as_json(), sort_keys=True)})


def describe(data: Path | bytes) -> Description:
    """The description in a data file, or in its content.

    Raises:
        ValueError, KeyError, TypeError, OSError, RecursionError: there is none, or a damaged one.
    """
    if isinstance(data, bytes):
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    else:
        with data.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(min(length, data.stat().st_size))
    return _DESCRIPTION.validate_json(json.loads(header)["__metadata__"][_ENTRY])
