"""`make ais`: how near log p̂(x) of a trained run is to log p(x), with annealed importance sampling for a referee.

    python scripts/ais.py [RUN] [IMAGES] [--proposal NAME] [--chains K] [--temperatures T]

RUN is a folder such as runs/fashion_mnist/vae/seed-0, IMAGES how many of the first test images are used. For every
proposal there is a line for importance sampling with 10 to 10,000 samples, and one for annealing from it. The error is
the Monte-Carlo error of the mean over these images, ESS the median over them. The cost is processor time on one thread;
that of making the proposal is part of it.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import copies

ROOT = copies.ROOT

from aebench import numerics  # noqa: E402

numerics.limit("native")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from aebench.data.datasets import load  # noqa: E402
from aebench.errors import ConfigError, TrainingError  # noqa: E402
from aebench.evaluation.annealing import CHAINS, TEMPERATURES, annealed, standard_error  # noqa: E402
from aebench.evaluation.diagnostics import effective_sample_size  # noqa: E402
from aebench.evaluation.marginal import BatchedProposal, Marginal  # noqa: E402
from aebench.evaluation.proposals import propose  # noqa: E402
from aebench.models.latent_variable_model import LatentVariableModel  # noqa: E402
from aebench.models.objectives import importance_weighted_bound  # noqa: E402
from aebench.paths import Layout  # noqa: E402
from aebench.randomness import generator  # noqa: E402
from aebench.training.trained_run import read_run  # noqa: E402

PROPOSALS = ("amortised", "refined", "laplace")
SAMPLES = (10, 100, 1000, 10_000)
SEED = 0
# Images for which proposals are made together.
GROUP = 100


class Group(NamedTuple):
    """Images `[B, D]`, of which the first has this number, and their proposals."""

    first: int
    x: Tensor
    proposal: BatchedProposal


def main() -> None:
    """Print the table, each line as soon as it is there.

    Raises:
        UserError: the run or its data are missing or damaged, or the model has no log p(x).
    """
    arguments = _arguments()
    numerics.begin()
    stored = read_run(ROOT / arguments.run)
    model, dataset = stored.model().requires_grad_(False), stored.description["dataset"]
    if not isinstance(model, LatentVariableModel):
        raise TrainingError(f"{arguments.run}: a model without p(z) has no log p(x)")
    test = load(Layout(ROOT).data(dataset), dataset, 0.0).test  # which does not depend on what is held out
    x, marginal = test.pixels(slice(0, arguments.images)), Marginal(model)
    print(f"{arguments.run}, the first {len(x)} test images")
    print(f"annealing with {arguments.chains} chains and {arguments.temperatures} temperatures")
    print("proposal   estimate     log p̂ [nats]   error      ESS  acceptance  cost [ms an image]")
    for name in [arguments.proposal] if arguments.proposal else PROPOSALS:
        try:
            for line in _lines(marginal, x, name, arguments.chains, arguments.temperatures):
                print(f"{name:10s} {line}", flush=True)
        except ConfigError as error:  # which another proposal need not bring
            print(f"{name:10s} {error}", flush=True)


def _arguments() -> argparse.Namespace:
    def positive(text: str) -> int:
        if (number := int(text)) < 1:
            raise ValueError
        return number

    parser = argparse.ArgumentParser(description="Check log p̂(x) of a trained run by annealed importance sampling.")
    parser.add_argument("run", nargs="?", default="runs/fashion_mnist/vae/seed-0", help="a run's folder")
    parser.add_argument("images", nargs="?", type=positive, default=50, help="how many of the first test images")
    parser.add_argument("--proposal", choices=PROPOSALS, help="this one in place of all")
    parser.add_argument("--chains", type=positive, default=CHAINS, help="of an image")
    parser.add_argument("--temperatures", type=positive, default=TEMPERATURES, help="of a chain")
    return parser.parse_args()


def _lines(marginal: Marginal, x: Tensor, name: str, chains: int, temperatures: int) -> Iterator[str]:
    propose(name, marginal, x[:1], seed=SEED)  # what torch loads at its first use is no cost of an image
    started = time.process_time()
    firsts = range(0, len(x), GROUP)
    parts = zip(firsts, x.split(GROUP), strict=True)
    groups = [
        Group(first, part, propose(name, marginal, part, seed=SEED, first=first).marginal) for first, part in parts
    ]
    making = time.process_time() - started
    for samples in SAMPLES:
        started = time.process_time()
        weights = [_log_weights(marginal, group, place, samples) for group in groups for place in range(len(group.x))]
        yield _line(f"K = {samples}", weights, time.process_time() - started + making)
    started = time.process_time()
    runs = [
        annealed(marginal.model, part, proposal, SEED, first=first, chains=chains, temperatures=temperatures)
        for first, part, proposal in groups
    ]
    seconds = time.process_time() - started + making
    yield _line("annealing", [each.log_weights for each in runs], seconds, [each.acceptance for each in runs])


def _log_weights(marginal: Marginal, group: Group, place: int, samples: int) -> Tensor:
    """log w of importance samples of one image, as the evaluation of seed 0 draws them: `[K, 1]`."""
    noise, x = generator(SEED, "importance samples", group.first + place), group.x[place : place + 1]
    return marginal.estimate(x, samples, noise, proposal=group.proposal.of(place)).marginal.log_weights


def _line(name: str, log_weights: Sequence[Tensor], seconds: float, acceptance: Sequence[Tensor] = ()) -> str:
    """A line from log w of all images, `[K, B]` of some of them each, and from the acceptance, `[B]`."""
    log_px = torch.cat([importance_weighted_bound(each) for each in log_weights])
    error = torch.cat([standard_error(each) for each in log_weights]).square().sum().sqrt() / len(log_px)
    ess = torch.tensor([effective_sample_size(of_image) for each in log_weights for of_image in each.T]).median()
    accepted = f"{torch.cat([*acceptance]).mean().item():.2f}" if acceptance else ""
    cost = 1000 * seconds / len(log_px)
    return f"{name:11s} {log_px.mean().item():13.3f} {error:7.3f} {ess:8.1f} {accepted:>11s} {cost:19.1f}"


if __name__ == "__main__":
    copies.finish(main)
