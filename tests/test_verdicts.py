"""A verdict is one of the variants, and not of the estimators that they were measured with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import block, network, protocol
from numpy.typing import NDArray
from test_evaluate import small

import aebench
from aebench.config import Data, Evaluation, Expost, RunConfig
from aebench.data.datasets import Splits, load
from aebench.evaluation.likelihoods import likelihoods
from aebench.evaluation.statistics import summary
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.randomness import drawing_from, generator
from aebench.reporting.pairs import SIGNIFICANT, Pair, pairs
from aebench.training.run import train_run

METRIC, GAP = "iw_log_likelihood_nats", "bound_gap_nats"
SEEDS = (0, 1, 2, 3)
# Whatever K was: here two are compared which are not comparable, and the report would not.
PROTOCOL = {"likelihood": "bernoulli", "binarization": "none", "importance_samples": 0, "proposal": "q(z|x)"}


@dataclass(frozen=True)
class Cell:
    """A variant's log p̂ of every image `[S, N]`, with the document of its metrics."""

    variant: str
    nats: NDArray[np.float64]
    gaps: tuple[float, ...]
    dataset: str = "digits"
    seeds: tuple[int, ...] = SEEDS

    @property
    def data(self) -> dict[str, Any]:
        return {"shape": [1, 8, 8]}

    @property
    def metrics(self) -> dict[str, Any]:
        measured = {METRIC: summary(self.nats.mean(1).tolist(), [*self.nats])}
        return {"summary": measured | ({GAP: summary(self.gaps, None)} if self.gaps else {}), "protocol": PROTOCOL}

    def values(self, metric: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        assert (metric, tuple(seeds)) == (METRIC, self.seeds)
        return self.nats


@pytest.fixture(scope="module")
def few(digits_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return load(small(digits_file, tmp_path_factory.mktemp("few") / "digits.safetensors", 200), "digits", 0.1)


@pytest.fixture(scope="module")
def trained(digits_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[LatentVariableModel]]:
    """The same variant after few and after many epochs, from the same seeds."""
    root, found = tmp_path_factory.mktemp("trained"), {}
    for epochs in (5, 20):
        config = RunConfig(
            variant="vae",
            model=block("vae"),
            network=network(latent_dim=8),
            training=protocol(epochs=epochs, batch_size=64, learning_rate=3e-3, select="last"),
            data=Data(validation_fraction=0.1),
            numerics="native",
        )
        found[epochs] = []
        for seed in SEEDS:
            folder = root / f"{epochs}-{seed}"
            train_run(config, "digits", seed, digits_file, lambda *_: None).write(folder)
            model = aebench.load_run(folder)
            assert isinstance(model, LatentVariableModel)
            found[epochs].append(model)
    return found


def evaluated(variant: str, models: Sequence[LatentVariableModel], samples: int, data: Splits) -> Cell:
    """The models evaluated with K = `samples` from the encoder's q."""
    config = Evaluation(
        importance_samples=samples,
        proposal="amortised",
        expost=Expost(images=0, importance_samples=1),
        corruption="masking",
        corruption_rate=0.3,
    )
    nats = [
        likelihoods(model, data.test, config, seed, lambda *_: None)[0][METRIC] for seed, model in enumerate(models)
    ]
    return Cell(variant, np.stack(nats), tuple(bound_gap(model, samples) for model in models))


@torch.no_grad()
def bound_gap(model: LatentVariableModel, samples: int, images: int = 200) -> float:
    """Upper minus lower bound on log p(x) in nats, of images x ~ p(x|z*), z* ~ p(z), which z* is a posterior sample of.

    The lower bound is log (1/K) Σ w(z_k), z_k ~ q(z|x); the upper one has w(z*) in place of one of these (Sobolev &
    Vetrov 2019).
    """
    with drawing_from(generator("simulated images")):
        prior = model.prior()
        z_of_x = prior.sample(torch.Size([images]))
        x = model.likelihood(z_of_x).sample()
        q = model.posterior(x)
        z = torch.cat([z_of_x[None], q.rsample(torch.Size([samples]))])  # type: ignore[union-attr]
    log_q = q.log_prob(z)  # type: ignore[union-attr]
    log_weights = (model.likelihood(z).log_prob(x) + prior.log_prob(z) - log_q).double()
    upper, lower = log_weights[:-1].logsumexp(0), log_weights[1:].logsumexp(0)
    return float((upper - lower).mean())


def judged(a: Cell, b: Cell) -> Pair:
    (found,) = pairs([a, b])  # type: ignore[list-item]
    return found


def test_one_variant_with_two_estimators_is_not_called_different(
    trained: dict[int, list[LatentVariableModel]], few: Splits
) -> None:
    models = trained[20]
    loose, tight = (evaluated(name, models, k, few) for name, k in (("loose", 3), ("tight", 200)))
    found = judged(loose, tight)
    assert found.p_holm < SIGNIFICANT
    assert found.better is None
    assert found.verdict.startswith("within the bounds' gap of ")
    blind = judged(Cell("loose", loose.nats, ()), Cell("tight", tight.nats, ()))
    assert blind.p_holm < SIGNIFICANT
    assert blind.better is None  # it would be wrong, and nothing but the gap could tell


def test_a_variant_that_is_better_is_called_so_beyond_the_gaps(
    trained: dict[int, list[LatentVariableModel]], few: Splits
) -> None:
    # Even where the better one has the looser estimator.
    short, long = (evaluated(str(epochs), trained[epochs], k, few) for epochs, k in ((5, 200), (20, 3)))
    found = judged(short, long)
    assert found.gap is not None
    assert found.gap > 0
    assert found.better == ("20", "5")
