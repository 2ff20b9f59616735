"""A reproducible benchmark of autoencoder variants."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aebench.models.autoencoder import Autoencoder


def load_run(folder: str | Path) -> "Autoencoder":
    """The trained model of a run's folder, e.g. `runs/fashion_mnist/vae/seed-0`, in evaluation mode.

    Raises:
        TrainingError: the folder holds no run, or a damaged one.
    """
    from aebench.training.trained_run import read_run  # here, so that importing the package does not import torch

    return read_run(Path(folder)).model()
