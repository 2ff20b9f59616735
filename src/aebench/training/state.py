"""Training between two epochs: all that its rest depends on, as bytes and back."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aebench.config import Training
from aebench.models.autoencoder import Autoencoder
from aebench.randomness import Streams
from aebench.training.optimizers import Optimizer

# A loss that has risen since the first epoch by more than so many times its size, or nats a pixel, has diverged.
FAR_WORSE = 100


@dataclass
class History:
    """What training did.

    `epochs`: a row an epoch, means over images: `train_loss` and its parts, the same on validation under
    `validation_`, and `validation_reconstruction_mse`, a pixel, which has one meaning for all variants (of the split's
    first images, see `train.RECONSTRUCTED`). Losses are sums over pixels and latents, in nats where the variant has a
    likelihood, else squared errors.
    `seconds`: how long each epoch took.
    `selected_epoch`: the one whose weights the model has now.
    `failed`: why training ended early, where it did; the weights are then those after the last finite epoch.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    selected_epoch: int = 0
    failed: str = ""

    @property
    def validation_losses(self) -> list[float]:
        """One an epoch; none where no images are held out."""
        return [row["validation_loss"] for row in self.epochs if "validation_loss" in row]

    def csv(self) -> str:
        """The history as CSV: a line for the names of the columns, then one an epoch, from 1."""
        table = io.StringIO()
        writer = csv.DictWriter(table, ["epoch", *(self.epochs[0] if self.epochs else ())], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **row} for epoch, row in enumerate(self.epochs, start=1))
        return table.getvalue()


@dataclass
class Progress:
    """A model in training with its history, and the weights with which it would end now.

    `best` is the validation loss of `best_weights`, −∞ where the last weights are taken, ∞ before the first epoch.
    `goes_on`: whether there is to be another epoch, as long as epochs are left.
    """

    model: Autoencoder
    history: History = field(default_factory=History)
    best: float = math.inf
    goes_on: bool = True
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._latest, self.best_weights = self._weights(), self._weights()

    def resume(self, history: History, best: float, goes_on: bool) -> None:
        """Continue with the weights that the model and `best_weights` have by now."""
        self.history, self.best, self.goes_on, self._latest = history, best, goes_on, self._weights()

    def end_epoch(self, row: dict[str, float], seconds: float, config: Training, pixels: int) -> bool:
        """Add an epoch's row and choose the weights; whether to go on: the run may have diverged, or be at its end.

        Args:
            row: of the history: the epoch's means.
            seconds: how long the epoch took.
            config: which epoch's weights to keep, and when to stop.
            pixels: D, by which a loss is judged.
        """
        epoch = len(self.history.epochs) + 1
        if reason := self._diverged(row, pixels):
            self.history.failed = f"{reason} in epoch {epoch}; try a smaller training.learning_rate"
            self.history.selected_epoch, self.best_weights = epoch - 1, self._latest
            self.goes_on = False
            return False
        self.history.epochs.append(row)
        self.history.seconds.append(seconds)
        self._latest = self._weights()
        score = row["validation_loss"] if config.select == "best_validation" else -math.inf
        if score < self.best or config.select == "last":
            self.best, self.history.selected_epoch, self.best_weights = score, epoch, self._latest
        self.goes_on = not config.stopping.ends(self.history.validation_losses, self.model.warmup_epochs)
        return self.goes_on

    def share_of_rate(self, config: Training) -> float:
        """Of the learning rate in the next epoch, by the validation losses so far."""
        return config.schedule.share_of_epoch(self.history.validation_losses, self.model.warmup_epochs)

    def end(self) -> History:
        """Leave the model with the weights that were chosen, in evaluation mode, and give its history."""
        self.model.load_state_dict(self.best_weights)
        self.model.eval()
        return self.history

    def _diverged(self, row: Mapping[str, float], pixels: int) -> str:
        """How an epoch went wrong, in words; empty where it did not."""
        for name, value in row.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        if self.history.epochs:
            first = self.history.epochs[0]["train_loss"]
            if row["train_loss"] - first > FAR_WORSE * max(abs(first), pixels):
                return f"train_loss has risen from {first:.4g} to {row['train_loss']:.4g}"
        return ""

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.clone() for name, weight in self.model.state_dict().items()}


@dataclass
class TrainingState:
    """All that the rest of a run depends on, or of several whose weights are stacked and which have one optimiser.

    `runs`: of each its weights, history and best weights, and its generators.
    """

    runs: Sequence[tuple[Progress, Streams]]
    optimizer: Optimizer

    def pack(self) -> bytes:
        """Everything as the content of a safetensors file, for `load_state`."""
        facts = [
            # As text, since JSON has no infinity that every reader takes.
            {"history": asdict(progress.history), "best": progress.best.hex(), "goes_on": progress.goes_on}
            for progress, _ in self.runs
        ]
        packed = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        return save({**{name: value.cpu() for name, value in self._tensors().items()}, "facts": packed})

    def load_state(self, packed: bytes) -> bool:
        """Continue from what `pack` gave; whether it was of runs like these: else nothing changes."""
        try:
            tensors = load(packed)
            facts = [
                (History(**of_run["history"]), float.fromhex(of_run["best"]), bool(of_run["goes_on"]))
                for of_run in json.loads(tensors.pop("facts").numpy().tobytes())
            ]
        except (SafetensorError, KeyError, TypeError, ValueError):
            return False
        states = [_taken(tensors, f"{run}/stream/") for run in range(len(self.runs))]
        mine = {name: value for name, value in self._tensors().items() if "/stream/" not in name}
        if {name: value.shape for name, value in tensors.items()} != {
            name: value.shape for name, value in mine.items()
        }:
            return False
        with torch.no_grad():
            for name, value in mine.items():
                value.copy_(tensors[name])
        for (progress, streams), of_run, state in zip(self.runs, facts, states, strict=True):
            streams.load_state_dict(state)
            progress.resume(*of_run)
        return True

    def _tensors(self) -> dict[str, Tensor]:
        parts: dict[str, Mapping[str, Tensor]] = {"optimizer": self.optimizer.state_dict()}
        for run, (progress, streams) in enumerate(self.runs):
            parts[f"{run}/weights"] = progress.model.state_dict()
            parts[f"{run}/best"] = progress.best_weights
            parts[f"{run}/stream"] = streams.state_dict()
        return {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without that beginning, and no longer in `tensors`."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
