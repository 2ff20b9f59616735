"""A trained model as MLflow serves it. This file goes into the logged model, with the modules that it imports.

MLflow runs it when the model is loaded: code and safetensors, nothing unpickled, and no need for an installed aebench.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical

from aebench.models.autoencoder import Autoencoder
from aebench.models.labels import sample_prior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import drawing_from, generator
from aebench.variants import restore

TASKS = ("reconstruct", "encode", "sample")
NO_LABEL = -1


class PyfuncModel(PythonModel):  # type: ignore[misc]
    """Images to reconstructions or codes, or samples from the prior; `pixels` is D."""

    model: Autoencoder
    pixels: int

    def load_context(self, context: Any) -> None:
        """Build the model from the artifacts `config` and `weights`."""
        description = json.loads(Path(context.artifacts["config"]).read_bytes())
        self.model = restore(description, Path(context.artifacts["weights"]).read_bytes())
        self.pixels = math.prod(description["images"]["shape"])

    @torch.no_grad()
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """What `task` asks for.

        Args:
            context: MLflow's.
            model_input: images `[B, D]` in [0, 1]; for `sample` only B, the number of samples, counts.
            params: `task`, one of `TASKS`; `label`, the class of all B images, or −1 where it is not told; `seed` of
                what `sample` draws.

        Returns:
            x̂ `[B, D]`, codes `[B, L]`, or the means of p(x|z) `[B, D]` for z from the prior.

        Raises:
            ValueError: no such task or label, images of another size, or a model without a prior is to be sampled.
        """
        chosen = {"task": TASKS[0], "label": NO_LABEL, "seed": 0, **(params or {})}
        task, label = chosen["task"], int(chosen["label"])
        x = torch.from_numpy(np.array(model_input, dtype=np.float32))
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images: found shape {tuple(x.shape)}, allowed: (number, {self.pixels})")
        y = self._labels(label, len(x))
        if task == "encode":
            return self.model.encode(x, y).numpy()
        if task == "reconstruct":
            return self.model.reconstruct(x, y).numpy()
        if task == "sample":
            return self._sample(len(x), y, int(chosen["seed"]))
        raise ValueError(f"task: found {task!r}, allowed: {', '.join(TASKS)}")

    def _labels(self, label: int, count: int) -> Tensor | None:
        if label == NO_LABEL:
            return None
        if not self.model.conditional_parts:
            raise ValueError(f"label: found {label}, but this model does not know labels, allowed: {NO_LABEL}")
        shares = self.model.log_class_shares
        assert isinstance(shares, Tensor)
        classes = len(shares)
        if not 0 <= label < classes:
            raise ValueError(f"label: found {label}, allowed: 0 to {classes - 1}, or {NO_LABEL} for none")
        return torch.full((count,), label)

    def _sample(self, count: int, y: Tensor | None, seed: int) -> NDArray[np.float32]:
        """Means of p(x|z), z from the prior; where no label is told, it is drawn from p(y)."""
        model = self.model
        if not isinstance(model, LatentVariableModel):
            raise ValueError(f"task: found 'sample', but {type(model).__name__} has no prior, allowed: {TASKS[:2]}")
        with drawing_from(generator(seed, "served samples")):
            if y is None and model.conditional_parts:
                y = Categorical(logits=model.log_class_shares).sample(torch.Size((count,)))
            z = model.prior().sample(torch.Size((count,))) if y is None else sample_prior(model, 1, y)[0]
            images: NDArray[np.float32] = model.decode(z, y).numpy()
        return images


def signature(pixels: int) -> ModelSignature:
    """What `predict` takes and returns for images of D pixels."""
    return ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, pixels))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, -1))]),
        ParamSchema(
            [ParamSpec("task", "string", TASKS[0]), ParamSpec("label", "long", NO_LABEL), ParamSpec("seed", "long", 0)]
        ),
    )


set_model(PyfuncModel())
