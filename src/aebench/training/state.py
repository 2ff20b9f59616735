"""A training run between two epochs: all that its rest depends on, as bytes and back."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aebench.models.autoencoder import Autoencoder
from aebench.randomness import Streams
from aebench.training.adam import Adam


@dataclass
class History:
    """What training did.

    `epochs`: a row an epoch, means over images: `train_loss` and its parts, the same on validation under
    `validation_`, and `validation_reconstruction_mse`, which has one meaning for all variants (of the split's first
    images, see `RECONSTRUCTED`).
    `seconds`: how long each epoch took.
    `selected_epoch`: the one whose weights the model has now.
    `failed`: why training ended early, where it did; the weights are then those after the last finite epoch.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    selected_epoch: int = 0
    failed: str = ""

    def csv(self) -> str:
        """A line for the names of the columns, then one an epoch."""
        table = io.StringIO()
        writer = csv.DictWriter(table, ["epoch", *(self.epochs[0] if self.epochs else ())], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **row} for epoch, row in enumerate(self.epochs, start=1))
        return table.getvalue()


@dataclass
class TrainingState:
    """Weights, Adam's averages, the generators, and the best weights so far with their score."""

    model: Autoencoder
    optimizer: Adam
    streams: Streams
    history: History = field(default_factory=History)
    best: float = math.inf
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Everything as the content of a safetensors file."""
        # JSON writes no infinity that every reader takes, and as a tensor the score is exact.
        facts = torch.frombuffer(bytearray(json.dumps(asdict(self.history)).encode()), dtype=torch.uint8)
        return save({**self._tensors(), "history": facts, "best": torch.tensor(self.best, dtype=torch.float64)})

    def go_on(self, packed: bytes) -> bool:
        """Continue from what `pack` gave; whether it was of a run like this one, without which nothing changes."""
        try:
            found = load(packed)
            history = History(**json.loads(found.pop("history").numpy().tobytes()))
            best = found.pop("best").item()
        except (SafetensorError, KeyError, TypeError, ValueError):
            return False
        streams = {name.removeprefix("stream/"): found.pop(name) for name in list(found) if name.startswith("stream/")}
        kept = {name: found.pop(name) for name in list(found) if name.startswith("best/")}
        mine = {name: value for name, value in self._tensors().items() if not name.startswith(("stream/", "best/"))}
        if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in mine.items()}:
            return False
        with torch.no_grad():
            for name, value in mine.items():
                value.copy_(found[name])
        self.streams.go_on(streams)
        self.history, self.best = history, best
        self.best_weights = {name.removeprefix("best/"): value for name, value in kept.items()}
        return True

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "weights": self.model.state_dict(),
            "adam": self.optimizer.state(),
            "stream": self.streams.states(),
            "best": self.best_weights,
        }
        return {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
