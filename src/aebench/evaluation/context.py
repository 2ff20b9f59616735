"""A trained run as the families of metrics see it: what several of them need is made once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebench.config import Evaluation, LikelihoodConfig
from aebench.data.datasets import Split, Splits
from aebench.evaluation.bounds import scores_any
from aebench.evaluation.diagnostics import FEWEST_SAMPLES
from aebench.evaluation.likelihoods import Vectors, likelihoods
from aebench.evaluation.probes import Labelled
from aebench.evaluation.proposals import importance_budget
from aebench.evaluation.protocol import PerImage
from aebench.models.autoencoder import Autoencoder
from aebench.models.labels import sampled_classes
from aebench.models.latent_variable_model import LatentVariableModel

if TYPE_CHECKING:
    from aebench.execution.progress import Report

BATCH = 1000


@dataclass(frozen=True)
class Context:
    """What there is to measure, and how.

    `model`: trained, its weights without gradients. `splits`: its data, on the model's device. `config`: K, the
    proposal, the corruption, the ex-post density. `seed`: the run's; the noise of estimators is derived from it.
    `report`: is told (images done, images in all, what is being measured). `likelihood`: p(x|z), where the variant has
    one. `history`: of its training, a row an epoch; empty where it is not known. `epochs`: how many there were to be.
    """

    model: Autoencoder
    splits: Splits
    config: Evaluation
    seed: int
    report: "Report"
    likelihood: LikelihoodConfig | None = None
    history: Sequence[Mapping[str, float]] = ()
    epochs: int = 0

    @cached_property
    def train(self) -> Labelled:
        """Codes and labels of the training images."""
        return _labelled(self.model, self.splits.train)

    @cached_property
    def validation(self) -> Labelled:
        """Codes and labels of the validation images, of which there may be none."""
        return _labelled(self.model, self.splits.validation)

    @cached_property
    def test(self) -> Labelled:
        """Codes and labels of the test images."""
        return _labelled(self.model, self.splits.test)

    @property
    def no_prior(self) -> str:
        """Why a figure that takes a likelihood is not defined; empty where it is."""
        if isinstance(self.model, LatentVariableModel):
            return ""
        return f"has no {self.model.lacks}, hence neither a likelihood nor a bound on one"

    def too_few_samples(self, proposal: str, samples: int) -> str:
        """Why k̂ is not defined with `samples` an image from `proposal`; empty where it is."""
        weighted = importance_budget(proposal, samples, sampled_classes(self.model)).weighted
        return "" if weighted >= FEWEST_SAMPLES else f"needs at least {FEWEST_SAMPLES} importance samples"

    @cached_property
    def no_density(self) -> str:
        """Why a figure that takes log q(z|x) of any z is not defined; empty where it is."""
        image, label = self.splits.test.pixels(slice(1)), self.splits.test.labels[:1]
        scored = scores_any(self.latent_variable_model.posterior(image, label))
        return "" if scored else "its q(z|x) has no density at a point that it did not draw"

    @cached_property
    def latent_variable_model(self) -> LatentVariableModel:
        """The model, where it has a p(z).

        Raises:
            TypeError: it has none.
        """
        if not isinstance(self.model, LatentVariableModel):
            raise TypeError(f"{self.no_prior}: `not_defined` must say so of what is measured by it")
        return self.model

    @cached_property
    def bounds(self) -> tuple[PerImage, Vectors]:
        """What `likelihoods` gives for the test images, which takes most of an evaluation's time.

        Raises:
            TypeError: the model has no p(z).
        """
        return likelihoods(self.latent_variable_model, self.splits.test, self.config, self.seed, self.report)


def batches(split: Split) -> Iterator[tuple[slice, Tensor]]:
    """The split's images, `BATCH` at a time, with their places."""
    for start in range(0, len(split), BATCH):
        where = slice(start, min(start + BATCH, len(split)))
        yield where, split.pixels(where)


@torch.no_grad()
def encode(model: Autoencoder, split: Split) -> NDArray[np.float32]:
    """Codes `[N, L]` of a split, without its labels; `[0, 0]` where it is empty."""
    return np.concatenate([model.encode(x).cpu().numpy() for _, x in batches(split)] or [np.empty((0, 0), np.float32)])


def _labelled(model: Autoencoder, split: Split) -> Labelled:
    return Labelled(encode(model, split), split.labels.cpu().numpy())
