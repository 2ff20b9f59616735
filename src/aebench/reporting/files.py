"""Files of other stages, read as if a stranger had written them.

What is damaged ends in one line that names the stage which makes the file anew. Nothing is unpickled, and no array
takes more memory than its file takes on the disk.
"""

import csv
import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aebench.data.archives import array
from aebench.errors import DataError, plain
from aebench.evaluation.metrics import metrics

Whole = Annotated[int, Field(ge=0, le=2**53)]
Count = Annotated[int, Field(ge=1, le=2**53)]
Interval = tuple[float, float]
Vector = dict[str, list[float]]


class _File(BaseModel):
    """What a file must have; it may have more."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Expost(_File):
    images: Whole
    importance_samples: Count


class _Evaluation(_File):
    importance_samples: Count
    proposal: str
    expost: _Expost
    extra: list[str] = []


class _Network(_File):
    latent_dim: Count


class _Protocol(_File):
    seeds: Whole
    images: Whole
    trained_with_labels: bool
    network: _Network
    evaluation: _Evaluation


class _Likelihood(_Protocol):
    likelihood: str
    likelihood_note: str
    binarization: str
    importance_samples: Count
    proposal: str


class _Summary(_File):
    # What may be left out may not be null.
    mean: float
    ci95_images: Interval = (math.nan, math.nan)
    sd: float = math.nan
    ci95: Interval = (math.nan, math.nan)

    @model_validator(mode="after")
    def _both_or_neither(self) -> "_Summary":
        if len({"sd", "ci95"} & self.model_fields_set) == 1:
            raise ValueError("sd and ci95 go together")
        return self


class Metrics(_File):
    """What the report needs of a variant's metric file."""

    dataset: str
    variant: str
    kind: str
    parameters: Whole
    protocol: _Likelihood | _Protocol
    seeds: dict[str, dict[str, float]]
    failed: dict[str, str]
    weights_sha256: dict[str, str]
    summary: dict[str, _Summary]
    vectors: dict[str, Vector]
    not_defined: dict[str, str]

    @model_validator(mode="after")
    def _fits_together(self) -> "Metrics":
        for name, vector in self.vectors.items():
            if len({len(values) for values in vector.values()}) > 1:
                raise ValueError(f"vectors.{name} is not of one length")
        samples, nats = (self.vectors.get(f"k_curve_{name}", {}) for name in ("samples", "nats"))
        if {seed: len(values) for seed, values in samples.items()} != {s: len(values) for s, values in nats.items()}:
            raise ValueError("vectors.k_curve_nats is not of the length of k_curve_samples")
        protocol = self.protocol.model_dump()
        if "likelihood" in protocol and not isinstance(self.protocol, _Likelihood):
            raise ValueError("protocol does not say how its likelihood was estimated")
        for metric in (metrics()[name] for name in self.summary if name in metrics()):
            try:
                hash(metric.group(protocol))
            except (LookupError, TypeError):
                raise ValueError(f"protocol does not say what {metric.name} is of") from None
        return self


class _OverImages(_File):
    mean: float
    ci95_images: Interval


class _Measured(_File):
    mean_image: dict[str, _OverImages]
    pca: dict[str, _OverImages]
    raw_pixels: dict[str, _OverImages]


class _Data(_File):
    shape: tuple[Count, Count, Count]
    classes: Annotated[list[str], Field(min_length=1)]
    files: dict[str, str]


class Baselines(_File):
    """What the report needs of a data set's baselines, and of the data set."""

    data: _Data
    latent_dim: Count
    baselines: _Measured


class RunDescription(_File):
    """What the sync needs of a run's configuration; of a run without any epoch, 0 or nothing is selected."""

    selected_epoch: Whole | None = None


def document(path: Path, schema: type[BaseModel], stage: str) -> dict[str, Any]:
    """A JSON file that `stage` wrote, as `schema` has it.

    Raises:
        DataError: it is missing or damaged.
    """
    content = existing(path, stage).read_bytes()
    try:
        schema.model_validate_json(content)
        read: dict[str, Any] = json.loads(content)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        raise damaged(path, stage, ".".join(map(str, error["loc"])), error["msg"]) from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, stage, plain(error)) from None
    return read


def arrays(path: Path, stage: str, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """The numeric arrays of a NumPy archive without compression that `stage` wrote, all or those of these `names`.

    Raises:
        DataError: it is missing or damaged, or lacks one of them.
    """
    try:
        with zipfile.ZipFile(existing(path, stage)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members.values())
            if not stored or sum(member.file_size for member in members.values()) > path.stat().st_size:
                raise ValueError("it would be larger in memory than on the disk")
            return {name: _numbers(name, archive.read(members[name])) for name in (members if names is None else names)}
    except DataError:
        raise
    except KeyError as error:
        raise damaged(path, stage, f"it holds no {error}") from None
    except Exception as error:  # zipfile and NumPy have no error of their own for each kind of damage
        raise damaged(path, stage, plain(error)) from None


def _numbers(name: str, content: bytes) -> NDArray[Any]:
    values = array(name, content)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"an array of {values.dtype}, which are no numbers")
    return values


def history(path: Path, stage: str, *, may_be_empty: bool = False) -> dict[str, list[float]]:
    """The columns of a run's history that `stage` wrote.

    Args:
        path: the file.
        stage: what makes it anew.
        may_be_empty: whether there may be no epoch, as of a run that failed at once.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        with existing(path, stage).open(newline="", encoding="utf-8") as lines:
            first, *rows = csv.reader(lines)
        columns = {name: [float(row[place]) for row in rows] for place, name in enumerate(first)}
        if not may_be_empty and not (rows and {"epoch", "train_loss"} <= set(columns)):
            raise ValueError("it has no epoch or no train_loss")
    except (ValueError, IndexError, csv.Error) as error:
        raise damaged(path, stage, plain(error)) from None
    return columns


def existing(path: Path, stage: str) -> Path:
    """The path of a file that is there.

    Raises:
        DataError: it is missing.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; run `dvc repro {stage}`")
    return path


def damaged(path: Path, stage: str, *what: str) -> DataError:
    """The error for a file that is not as `stage` wrote it; `what` is wrong with it, from the place to the reason."""
    reason = plain(": ".join(filter(None, what)))
    return DataError(f"{path} is damaged ({reason}); delete it and run `dvc repro {stage}`")
