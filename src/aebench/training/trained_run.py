"""A trained run as files, and back."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save

from aebench.config import LikelihoodConfig, RunConfig
from aebench.errors import TrainingError, UserError, plain
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.paths import CONFIG, HISTORY, WEIGHTS, write
from aebench.store import pack_files, unpack_files
from aebench.training.state import History
from aebench.variants import configuration, restore


@dataclass(frozen=True)
class TrainedRun:
    """One run. `files` by name: their bytes depend on code, data, parameters and seed alone.

    `seconds`: how long each epoch took; `ended_at`: when training ended, in seconds since 1970.
    """

    files: Mapping[str, bytes]
    seconds: tuple[float, ...]
    ended_at: float

    def runtime(self) -> dict[str, Any]:
        """When the run was trained, in seconds since 1970, beside the hash of its weights.

        The times differ from one rerun to the next, so no file of the run holds them.
        The clock is read once: where it was set in between, the epochs still follow each other.
        """
        started_at = self.ended_at - sum(self.seconds)
        return {
            "weights_sha256": hashlib.sha256(self.files[WEIGHTS]).hexdigest(),
            "started_at": started_at,
            "epochs_finished_at": [started_at + elapsed for elapsed in accumulate(self.seconds)],
        }

    @property
    def failed(self) -> str:
        """Why training ended early; empty where it did not."""
        return str(json.loads(self.files[CONFIG]).get("failed", ""))

    def write(self, folder: Path) -> None:
        """Write the files into `folder`, which is made where it is missing.

        Raises:
            FileError: the disk is full, or the folder may not be written to.
        """
        for name, content in self.files.items():
            write(folder / name, content)

    def pack(self) -> bytes:
        """Everything in one piece, for `unpack`."""
        times = json.dumps([self.seconds, self.ended_at]).encode()
        return pack_files({**self.files, "times": times})

    @classmethod
    def unpack(cls, packed: bytes) -> "TrainedRun":
        """What `pack` gave."""
        files = unpack_files(packed)
        seconds, ended_at = json.loads(files.pop("times"))
        return cls(files, tuple(seconds), ended_at)


def pack_runs(runs: Sequence[TrainedRun]) -> bytes:
    """Several runs in one piece."""
    return pack_files({str(place): run.pack() for place, run in enumerate(runs)})


def unpack_runs(packed: bytes) -> list[TrainedRun]:
    """What `pack_runs` gave."""
    files = unpack_files(packed)
    return [TrainedRun.unpack(files[str(place)]) for place in range(len(files))]


def pack(
    model: Autoencoder, history: History, config: RunConfig, dataset: str, seed: int, spec: ImageSpec
) -> TrainedRun:
    """A trained model on the CPU, its history and its configuration, ready to be written."""
    description = {
        "dataset": dataset,
        "seed": seed,
        "images": {"shape": spec.shape, "class_shares": spec.class_shares},
        "selected_epoch": history.selected_epoch,
        **({"failed": history.failed} if history.failed else {}),
        **config.model_dump(mode="json", exclude_none=True),
    }
    return TrainedRun(
        files={
            WEIGHTS: save({name: weight.contiguous() for name, weight in model.state_dict().items()}),
            CONFIG: (json.dumps(description, indent=2, sort_keys=True) + "\n").encode(),
            HISTORY: history.csv().encode(),
        },
        seconds=tuple(history.seconds),
        ended_at=time.time(),
    )


@dataclass(frozen=True)
class StoredRun:
    """The files of a run's folder as they were read: they can go to another machine.

    `weights`: the content of the weights file; `description`: that of the configuration file.
    """

    folder: str
    weights: bytes
    description: Mapping[str, Any]

    @property
    def selected_epoch(self) -> int:
        """The epoch whose weights were kept."""
        return int(self.description["selected_epoch"])

    @property
    def failed(self) -> str:
        """Why training ended early; empty where it did not."""
        return str(self.description.get("failed", ""))

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the weights file."""
        return hashlib.sha256(self.weights).hexdigest()

    @property
    def likelihood(self) -> LikelihoodConfig | None:
        """p(x|z), where the variant has one.

        Raises:
            ConfigError: the description is damaged, or of another version.
        """
        likelihood: LikelihoodConfig | None = getattr(configuration(self.description["model"]), "likelihood", None)
        return likelihood

    def model(self) -> Autoencoder:
        """The trained model, in evaluation mode.

        Raises:
            TrainingError: the files are damaged, or of another version.
        """
        try:
            return restore(self.description, self.weights)
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError, UserError) as error:
            raise TrainingError(f"{self.folder} does not hold a run of this version: {plain(error, 300)}") from None


def read_run(folder: Path) -> StoredRun:
    """Read a run's folder.

    Raises:
        TrainingError: the folder holds no run, or a damaged one.
    """
    try:
        return StoredRun(str(folder), (folder / WEIGHTS).read_bytes(), json.loads((folder / CONFIG).read_bytes()))
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise TrainingError(f"{folder} holds no trained run ({missing} is missing); run its train stage") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{getattr(error, 'filename', None) or folder / CONFIG} is damaged: {error}") from None
