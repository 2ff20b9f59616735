"""How many importance samples a refined proposal saves, on a trained run: the bound and its cost at several K.

    python benchmarks/proposals.py [RUN] [IMAGES]

RUN is a folder such as runs/fashion_mnist/vae/seed-0, IMAGES how many of the first test images are used. One thread;
the cost of a refined estimate counts the refinement.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from aebench import numerics  # noqa: E402

numerics.limit("native")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from aebench.data.datasets import load  # noqa: E402
from aebench.evaluation.marginal import BatchedProposal, Marginal  # noqa: E402
from aebench.evaluation.proposals import refined  # noqa: E402
from aebench.models.latent_variable_model import LatentVariableModel  # noqa: E402
from aebench.paths import Layout  # noqa: E402
from aebench.randomness import generator  # noqa: E402
from aebench.training.trained_run import read_run  # noqa: E402

GROUP = 100
AMORTISED = (1, 10, 100, 1000, 5000)
REFINED = (1, 3, 10, 30, 100, 1000)


def main(run: str = "runs/fashion_mnist/vae/seed-0", images: str = "1000") -> None:
    """Print a line for each proposal and K."""
    torch.set_num_threads(1)
    stored = read_run(ROOT / run)
    model, description = stored.model(), stored.description
    assert isinstance(model, LatentVariableModel)
    dataset = description["dataset"]
    splits = load(Layout(ROOT).data(dataset), dataset, description["data"]["validation_fraction"])
    x = splits.test.pixels(slice(0, int(images)))
    model.requires_grad_(False)
    started = time.perf_counter()
    marginal = Marginal(model)
    groups = [
        _refined(marginal, part, first) for part, first in zip(x.split(GROUP), range(0, len(x), GROUP), strict=True)
    ]
    refinement = (time.perf_counter() - started) / len(x)
    print(f"{run}, {len(x)} test images; the refinement takes {1000 * refinement:.2f} ms an image")
    print("proposal       K   bound [nats]   cost [ms an image]")
    for name, samples_of, overhead in (("amortised", AMORTISED, 0.0), ("refined", REFINED, refinement)):
        for samples in samples_of:
            started = time.perf_counter()
            bounds = []
            for position, image in enumerate(x.split(1)):
                proposal = groups[position // GROUP].of(position % GROUP) if name == "refined" else None
                bounds.append(_bound(marginal, image, samples, position, proposal))
            cost = (time.perf_counter() - started) / len(x) + overhead
            print(f"{name:9s} {samples:6d} {sum(bounds) / len(bounds):14.3f} {1000 * cost:13.2f}", flush=True)


def _refined(marginal: Marginal, x: Tensor, first: int) -> BatchedProposal:
    labels = range(max(marginal.classes, 1))
    noise = [generator("refinement", first + image, label) for image in range(len(x)) for label in labels]
    return BatchedProposal.make(lambda x, y: refined(marginal.model, x, noise, y), x, marginal.classes)


def _bound(marginal: Marginal, x: Tensor, samples: int, position: int, proposal: BatchedProposal | None) -> float:
    found = marginal.estimate(x, samples, generator("bound", position), proposal=proposal)
    return found.marginal.iw_log_likelihood.item()


if __name__ == "__main__":
    main(*sys.argv[1:])
