"""A trained run as files, and back."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from aebench.config import Network, RunConfig, parse
from aebench.errors import TrainingError
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.paths import CONFIG, HISTORY, WEIGHTS
from aebench.training.train import History
from aebench.variants import build, kinds


@dataclass(frozen=True)
class TrainedRun:
    """The files of one run, by name: bytes that depend on code, data and parameters alone."""

    files: Mapping[str, bytes]
    finished_at: tuple[float, ...]
    started_at: float

    def runtime(self) -> dict[str, Any]:
        """When the run was trained, in seconds since 1970: facts that differ from one rerun to the next."""
        return {
            "weights_sha256": hashlib.sha256(self.files[WEIGHTS]).hexdigest(),
            "started_at": self.started_at,
            "epochs_finished_at": self.finished_at,
        }

    def write(self, folder: Path) -> None:
        """Write the files into `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def pack(
    model: Autoencoder, history: History, config: RunConfig, dataset: str, seed: int, spec: ImageSpec, started_at: float
) -> TrainedRun:
    """A trained model, its history and its configuration, ready to be written."""
    description = {
        "dataset": dataset,
        "seed": seed,
        "images": {"pixels": spec.pixels, "class_shares": spec.class_shares},
        "selected_epoch": history.selected_epoch,
        **config.model_dump(mode="json", exclude_none=True),
    }
    table = io.StringIO()
    writer = csv.DictWriter(table, ["epoch", *history.epochs[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": epoch, **row} for epoch, row in enumerate(history.epochs, start=1))
    return TrainedRun(
        files={
            WEIGHTS: save({name: weight.contiguous() for name, weight in model.state_dict().items()}),
            CONFIG: (json.dumps(description, indent=2, sort_keys=True) + "\n").encode(),
            HISTORY: table.getvalue().encode(),
        },
        finished_at=tuple(history.finished_at),
        started_at=started_at,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The description that a run was trained with.

    Raises:
        TrainingError: the folder holds no run, or a damaged one.
    """
    try:
        description: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise TrainingError(f"{folder} holds no trained run ({CONFIG} is missing); run its train stage") from None
    except ValueError as error:
        raise TrainingError(f"{folder / CONFIG} is damaged: {error}") from None
    return description


def load_run(folder: str | Path) -> Autoencoder:
    """The trained model of a run's folder, e.g. `runs/fashion_mnist/vae/seed-0`, in evaluation mode.

    Raises:
        TrainingError: the folder holds no run, or a damaged one.
    """
    folder = Path(folder)
    description = read_config(folder)
    try:
        config = parse(kinds()[description["model"]["kind"]], description["model"])
        network = parse(Network, description["network"])
        images = description["images"]
        model = build(config, network, ImageSpec(images["pixels"], tuple(images["class_shares"])))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"{folder} does not hold a run of this version: {' '.join(str(error).split())}") from None
    return model.eval()


def weights_sha256(folder: Path) -> str:
    """The SHA-256 of a run's weights file."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
