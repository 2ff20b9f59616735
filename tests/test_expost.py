"""Ex-post densities against closed forms."""

import math

import pytest
import torch
from conftest import tiny
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import MultivariateNormal

from aebench.data.datasets import Split, Splits
from aebench.errors import TrainingError
from aebench.evaluation.expost import COMPONENTS, ExPost
from aebench.evaluation.marginal import Marginal
from aebench.evaluation.proposals import propose
from aebench.models.autoencoder import Autoencoder, Noise
from aebench.models.networks import architectures
from aebench.randomness import generator


class Linear(Autoencoder):
    """A linear decoder, so that with a mixture of Gaussians as p(z) the density of x is one too."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(8, 2, generator=generator("weights")) / 4

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        raise AssertionError("not needed")

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x - 0.5) @ torch.linalg.pinv(self.weights).T

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z @ self.weights.T + 0.5

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(x))


def images(count: int, *key: str) -> Split:
    codes = torch.randn(count, 2, generator=generator(*key)) * torch.tensor([0.5, 1.0])
    x = Linear().decode(codes) + 0.05 * torch.randn(count, 8, generator=generator(*key, "noise"))
    return Split((255 * x.clamp(0, 1)).to(torch.uint8), torch.arange(count) % 2)


def test_a_linear_decoders_density_is_that_of_the_mixture() -> None:
    model = Linear()
    expost = ExPost(model, images(2000, "train"), images(500, "validation"))
    test = images(5, "test").pixels(slice(None))
    prior = expost.prior()
    covariances = model.weights @ prior.component_distribution.covariance_matrix @ model.weights.T  # type: ignore[attr-defined]
    variance = torch.exp(2 * expost.log_sigma)
    exact = torch.logsumexp(
        MultivariateNormal(
            model.decode(prior.component_distribution.mean),  # type: ignore[attr-defined]
            covariances + variance * torch.eye(8),
        ).log_prob(test[:, None])
        + prior.mixture_distribution.logits,  # type: ignore[attr-defined]
        dim=-1,
    )
    marginal, prepared = Marginal(expost), propose("laplace", Marginal(expost), test, seed=0).marginal
    for position, x in enumerate(test.split(1)):
        found = marginal.estimate(x, 50_000, generator("noise", position), proposal=prepared.of(position)).marginal
        assert found.iw_log_likelihood.item() == pytest.approx(exact[position].item(), abs=0.02)
        few = [
            marginal.estimate(x, 200, generator("few", i), proposal=prepared.of(position)).marginal.iw_log_likelihood
            for i in range(100)
        ]
        assert sum(few).item() / 100 == pytest.approx(exact[position].item(), abs=0.05)


def test_the_size_of_codes_does_not_matter() -> None:
    """A decoder can undo any: no density of images depends on it."""

    class Smaller(Linear):
        def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return super().encode(x) / 4096

        def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            return super().decode(4096 * z)

    test, found = images(30, "test").pixels(slice(None)), []
    for model in (Linear(), Smaller()):
        marginal = Marginal(ExPost(model, images(2000, "train"), images(500, "validation")))
        proposal = propose("laplace", marginal, test, seed=0).marginal
        estimate = marginal.estimate(test, 2000, generator("noise"), proposal=proposal)
        found.append(estimate.marginal.iw_log_likelihood)
    torch.testing.assert_close(*found, atol=1e-3, rtol=0)


def test_sigma_is_the_error_on_validation_images() -> None:
    model, validation = Linear(), images(500, "validation")
    expost = ExPost(model, images(2000, "train"), validation)
    x = validation.pixels(slice(None))
    assert expost.log_sigma.exp().item() == pytest.approx((x - model.reconstruct(x)).square().mean().sqrt().item())
    empty = Split(torch.empty(0, 8, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    train = images(2000, "train")
    x = train.pixels(slice(None))
    without = ExPost(model, train, empty)
    assert without.log_sigma.exp().item() == pytest.approx((x - model.reconstruct(x)).square().mean().sqrt().item())


def test_the_prior_is_the_mixture_that_fits_the_codes_best() -> None:
    """To codes of unit spread; half of them are the same, so that the components' weights differ and matter."""
    train = images(2000, "train")
    far = Linear().decode(torch.tensor([[0.8, -0.8]])).clamp(0, 1).mul(255).to(torch.uint8)
    train = Split(torch.cat([train.images[:1000], far.expand(1000, -1)]), train.labels)
    expost = ExPost(Linear(), train, images(500, "validation"))
    codes = Linear().encode(train.pixels(slice(None)))
    spread = codes.std(0).mean().item()
    of_unit_spread = (codes / spread).double().numpy()
    fitted = GaussianMixture(COMPONENTS, random_state=0).fit(of_unit_spread)
    found = expost.prior().log_prob(codes).mean().item()
    assert found == pytest.approx(fitted.score(of_unit_spread) - 2 * math.log(spread), abs=0.1)


def test_the_proposal_is_better_than_the_code(digits: Splits) -> None:
    model = tiny("ae")
    expost = ExPost(model, digits.train, digits.validation)
    x = digits.test.pixels(slice(0, 20))
    q = propose("laplace", Marginal(expost), x, seed=0).marginal.q

    def log_joint(z: Tensor) -> Tensor:
        return expost.likelihood(z).log_prob(x) + expost.prior().log_prob(z)

    gain = log_joint(q.mean) - log_joint(model.encode(x))
    assert (gain > -0.05).all()  # the mean is a little beside the mode
    assert (gain > 0.01).float().mean() > 0.5


@pytest.mark.parametrize(
    ("kind", "settings", "classes"),
    [
        *(("ae", {}, 0), ("vae", {}, 0), ("cvae", {}, 0), ("cvae", {"conditioning": "concat"}, 10)),
        ("vae", {"likelihood": "discretised_logistic"}, 0),  # whose decoder gives two values a pixel
    ],
)
@pytest.mark.parametrize("architecture", sorted(architectures()))
def test_every_variant_has_one(
    digits: Splits, kind: str, settings: dict[str, str], classes: int, architecture: str
) -> None:
    expost = ExPost(tiny(kind, architecture=architecture, **settings), digits.train, digits.validation)
    marginal = Marginal(expost)
    assert marginal.classes == classes
    x = digits.test.pixels(slice(0, 3))
    prepared = propose("laplace", marginal, x, seed=0).marginal
    for position, image in enumerate(x.split(1)):
        found = marginal.estimate(image, 100, generator("noise"), proposal=prepared.of(position)).marginal
        assert math.isfinite(found.iw_log_likelihood)


def test_a_mixture_of_few_or_equal_codes_is_a_density_still(digits: Splits) -> None:
    few = Split(digits.train.images[: COMPONENTS - 2], digits.train.labels[: COMPONENTS - 2])
    black = Split(torch.zeros(100, 64, dtype=torch.uint8), torch.arange(100) % 10)
    for train in (few, black):
        expost = ExPost(tiny("ae"), train, digits.validation)
        marginal, x = Marginal(expost), digits.test.pixels(slice(0, 1))
        proposal = propose("laplace", marginal, x, seed=0).marginal
        found = marginal.estimate(x, 50, generator("noise"), proposal=proposal).marginal
        assert math.isfinite(found.iw_log_likelihood)


def test_a_decoder_without_a_derivative_is_named(digits: Splits) -> None:
    model = tiny("ae")
    expost = ExPost(model, digits.train, digits.validation)
    for weight in model.decoder.parameters():  # type: ignore[union-attr]
        weight.data *= 1e30
    with pytest.raises(TrainingError, match="the decoder's derivative is not finite: the run has diverged"):
        propose("laplace", Marginal(expost), digits.test.pixels(slice(0, 2)), seed=0)
