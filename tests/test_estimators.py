"""Estimators against exact answers."""

import math
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, tiny
from scipy import integrate
from torch import Tensor
from torch.distributions import Independent, Normal

from aebench.evaluation.estimators import bounds
from aebench.models.autoencoder import LatentVariableModel
from aebench.models.latents import diagonal_normal, unit_normal
from aebench.models.likelihoods import Bernoulli, Likelihood
from aebench.randomness import Streams, generator


class OneLatent(LatentVariableModel):
    """A Bernoulli decoder of one latent, with a proposal that is not the posterior."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.tensor([[1.5, -0.7, 2.0, 0.1, -1.2, 0.8]])

    def loss(self, x: Tensor, y: Tensor, *, epoch: int | None, streams: Streams) -> dict[str, Tensor]:
        raise AssertionError("not needed")

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.likelihood(self.encode(x)).mean

    def prior(self, y: Tensor | None = None) -> Independent[Normal]:
        return unit_normal(torch.zeros(1))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Independent[Normal]:
        return diagonal_normal(torch.full((len(x), 1), 0.4), torch.full((len(x), 1), -0.6))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Likelihood:
        return Bernoulli(z @ self.slope + 0.2)


MODEL = OneLatent()
X = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]])


@torch.no_grad()
def log_joint(z: float) -> float:
    point = torch.tensor([[z]])
    return (MODEL.prior().log_prob(point) + MODEL.likelihood(point).log_prob(X)).item()


def test_the_estimate_converges_from_below_to_the_log_likelihood_by_quadrature() -> None:
    exact = math.log(integrate.quad(lambda z: math.exp(log_joint(z)), -10, 10)[0])
    few = [bounds(MODEL, X, [MODEL.prior()], 3, generator("few", i))[0].iw_log_likelihood for i in range(300)]
    (many,) = bounds(MODEL, X, [MODEL.prior()], 50_000, generator("many"))
    assert many.iw_log_likelihood == pytest.approx(exact, abs=0.01)
    mean, error = torch.tensor(few).mean().item(), torch.tensor(few).std().item() / math.sqrt(300)
    assert mean < exact - 3 * error  # a lower bound, and visibly so at K = 3
    assert many.elbo < exact


def test_distortion_and_rate_by_quadrature() -> None:
    q = MODEL.posterior(X)

    def density(z: float) -> float:
        return math.exp(q.log_prob(torch.tensor([[z]])).item())

    def distortion(z: float) -> float:
        return -density(z) * (log_joint(z) - MODEL.prior().log_prob(torch.tensor([[z]])).item())

    (found,) = bounds(MODEL, X, [MODEL.prior()], 50_000, generator("many"))
    assert found.distortion == pytest.approx(integrate.quad(distortion, -10, 10)[0], abs=0.02)
    mean, variance = 0.4, math.exp(-0.6)
    assert found.rate == pytest.approx(0.5 * (mean**2 + variance - math.log(variance) - 1), abs=1e-5)
    assert found.elbo == -found.distortion - found.rate


@pytest.mark.parametrize("samples", [1, 7, 97, 1000, 1024, 1031])
def test_exactly_k_samples_are_used_and_they_are_the_first_of_the_images_generator(samples: int) -> None:
    """The estimate is that of K weights computed by hand, for K prime as well."""
    (found,) = bounds(MODEL, X, [MODEL.prior()], samples, generator("noise"))
    noise = torch.randn(2048, 1, 1, generator=generator("noise"))[:samples]
    q = MODEL.posterior(X)
    z = q.mean + q.stddev * noise
    with torch.no_grad():
        log_weights = MODEL.likelihood(z).log_prob(X) + MODEL.prior().log_prob(z) - q.log_prob(z)
    by_hand = torch.logsumexp(log_weights.double(), 0).item() - math.log(samples)
    assert found.iw_log_likelihood == pytest.approx(by_hand, abs=1e-5)


def test_the_value_does_not_depend_on_the_chunk() -> None:
    model = tiny("vae")
    assert isinstance(model, LatentVariableModel)
    x = torch.rand(1, 64, generator=generator("x"))
    found = [bounds(model, x, [model.prior()], 1000, generator("noise"), chunk)[0] for chunk in (16, 128, 1024)]
    for other in found[1:]:
        assert other.iw_log_likelihood == pytest.approx(found[0].iw_log_likelihood, abs=1e-4)


def test_the_bound_rises_with_k() -> None:
    means = []
    for samples in (1, 10, 100):
        values = [
            bounds(MODEL, X, [MODEL.prior()], samples, generator(samples, i))[0].iw_log_likelihood for i in range(400)
        ]
        means.append(sum(values) / len(values))
    assert means == sorted(means)


def test_a_label_adds_at_most_its_own_information() -> None:
    """For every image log p(x) ≥ log p(x|y) + log p(y), and Σ_y p(y) p(x|y) = p(x): from the same samples exactly."""
    model = tiny("cvae")
    assert isinstance(model, LatentVariableModel)
    model.class_means.data.normal_(generator=generator("means"))
    shares = torch.arange(1, 11) / 55
    x = torch.rand(1, 64, generator=generator("x"))
    priors = [model.prior(), *(model.prior(torch.tensor([label])) for label in range(10))]
    marginal, *given = (bound.iw_log_likelihood for bound in bounds(model, x, priors, 500, generator("noise")))
    joint = torch.tensor(given) + shares.log()
    assert (joint <= marginal + 1e-4).all()
    assert torch.logsumexp(joint, 0).item() == pytest.approx(marginal, abs=1e-4)


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """The logits of all 400,000 samples would take 1.2 GB."""
    script = (
        "import resource; from conftest import tiny; import torch; from aebench.evaluation.estimators import bounds;"
        "from aebench.randomness import generator; model = tiny('vae', pixels=784); x = torch.rand(1, 784);"
        "run = lambda k: bounds(model, x, [model.prior()], k, generator('noise'));"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "run(2000); before = peak(); run(400_000); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 30_000  # KiB
