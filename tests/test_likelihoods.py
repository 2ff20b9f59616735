import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from aebench.models.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood, PixelDistribution
from aebench.randomness import drawing_from, generator

# On both sides of the point where the continuous Bernoulli goes over to its series, and at its ends.
LOGITS = [0.0, 1e-6, -1e-6, 0.1, 0.29, -0.29, 0.31, -0.31, 1.0, -3.0, 12.0, 30.0, -30.0]
MAKERS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": lambda output: Gaussian(output, torch.tensor(-1.0)),
}


def density(likelihood: Likelihood, x: float) -> float:
    """Of one pixel."""
    return math.exp(likelihood.log_prob(torch.tensor([x], dtype=torch.float64)).item())


def one_pixel(logit: float) -> ContinuousBernoulli:
    return ContinuousBernoulli(torch.tensor([logit], dtype=torch.float64))


def continuous_bernoulli(l: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: E741
    """The log-density in nats and its derivative by l, from the definition in float64."""
    t = np.where(l == 0, 1, np.abs(l))
    log_integral = np.where(l == 0, 0, np.maximum(l, 0) + np.log(-np.expm1(-t) / t))
    mean = np.where(np.abs(l) < 1e-4, 0.5 - np.abs(l) / 12, 1 / t + np.exp(-t) / np.expm1(-t))  # for −|l|
    return x * l - log_integral, x - np.where(l > 0, 1 - mean, mean)


def test_bernoulli_sums_to_one_over_all_binary_images() -> None:
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    likelihood = Bernoulli(3 * torch.randn(1, 6, generator=generator("logits")))
    with torch.no_grad():
        assert likelihood.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert likelihood.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_many_factors_do_not_overflow() -> None:
    with torch.no_grad():
        found = Bernoulli(torch.zeros(3, 4096)).log_prob(torch.rand(1, 4096, generator=generator("x")))
    torch.testing.assert_close(found, torch.full((3,), -4096 * math.log(2)))


@pytest.mark.parametrize("pixels", [1, 7, 8, 12, 64, 784])
def test_with_and_without_gradients_the_same_number(pixels: int) -> None:
    logits = 8 * torch.randn(5, 4, pixels, generator=generator("logits", pixels))
    logits[0, 0, 0], logits[0, 1, 0] = 200.0, -200.0
    x = torch.rand(4, pixels, generator=generator("x", pixels))
    likelihood = Bernoulli(logits)
    with torch.no_grad():
        fast = likelihood.log_prob(x)
    p = torch.distributions.Bernoulli(logits=logits.double(), validate_args=False)
    expected = p.log_prob(x.double().expand_as(logits)).sum(-1)
    assert fast.shape == (5, 4)
    torch.testing.assert_close(fast.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(likelihood.log_prob(x).double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(likelihood.logits, logits)  # not overwritten


def test_the_mean_is_the_probability_of_a_one() -> None:
    likelihood = Bernoulli(torch.tensor([[0.0, 2.0, -2.0]]))
    with torch.no_grad():
        ones = [likelihood.log_prob(torch.eye(3)[i] * 1.0) - likelihood.log_prob(torch.zeros(3)) for i in range(3)]
    # log p(1) − log p(0) of each pixel is its logit.
    assert [one.item() for one in ones] == pytest.approx([0.0, 2.0, -2.0], abs=1e-6)
    assert likelihood.mean[0].tolist() == pytest.approx([0.5, 0.880797, 0.119203], abs=1e-6)


def test_bernoulli_samples_are_ones_as_often_as_the_mean_says() -> None:
    likelihood = Bernoulli(torch.tensor([0.0, 2.0, -2.0]).expand(20_000, 3))
    with drawing_from(generator("bernoulli")):
        drawn = likelihood.sample()
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    p = likelihood.mean[0]
    assert ((drawn.mean(0) - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()


@pytest.mark.parametrize("name", MAKERS)
def test_one_image_is_scored_under_many_samples_of_z(name: str) -> None:
    output, x = torch.randn(5, 1, 9, generator=generator("o")), torch.rand(1, 9, generator=generator("x"))
    batch = torch.rand(4, 9, generator=generator("batch"))
    likelihood = MAKERS[name](output)
    for images in (x, batch):
        one_by_one = torch.stack(
            [torch.stack([MAKERS[name](o[0]).log_prob(image) for image in images]) for o in output]
        )
        assert likelihood.log_prob(images).shape == (5, len(images))
        torch.testing.assert_close(likelihood.log_prob(images), one_by_one)
        with torch.no_grad():
            torch.testing.assert_close(likelihood.log_prob(images), one_by_one)


@pytest.mark.parametrize("name", MAKERS)
def test_pixels_are_independent(name: str) -> None:
    output, x = torch.randn(9, generator=generator("o")), torch.rand(9, generator=generator("x"))
    each = [MAKERS[name](output[i : i + 1]).log_prob(x[i : i + 1]).item() for i in range(9)]
    assert MAKERS[name](output).log_prob(x).item() == pytest.approx(sum(each), abs=1e-5)


@pytest.mark.parametrize("logit", LOGITS)
def test_a_continuous_bernoulli_integrates_to_one_and_its_mean_is_that_of_its_density(logit: float) -> None:
    likelihood = one_pixel(logit)
    total, _ = integrate.quad(lambda x: density(likelihood, x), 0, 1)
    mean, _ = integrate.quad(lambda x: x * density(likelihood, x), 0, 1)
    assert total == pytest.approx(1, abs=1e-7)
    assert likelihood.mean.item() == pytest.approx(mean, abs=1e-7)
    assert ContinuousBernoulli(torch.tensor([logit])).mean.item() == pytest.approx(mean, abs=1e-6)  # float32


def test_the_mean_of_a_continuous_bernoulli_is_not_lambda() -> None:
    logits = torch.tensor([-3.0, -0.2, 0.2, 3.0])
    assert ((ContinuousBernoulli(logits).mean - 0.5).abs() < 0.8 * (torch.sigmoid(logits) - 0.5).abs()).all()


def test_a_continuous_bernoulli_agrees_with_torch_away_from_one_half() -> None:
    logits = torch.cat([torch.linspace(0.02, 0.5, 25), torch.linspace(0.5, 12, 60)]).double()
    logits = torch.cat([-logits, logits])[:, None]
    expected = torch.distributions.ContinuousBernoulli(logits=logits)
    for x in (0.0, 0.3, 1.0):
        pixel = torch.tensor([x], dtype=torch.float64)
        found = ContinuousBernoulli(logits).log_prob(pixel)
        torch.testing.assert_close(found, expected.log_prob(pixel)[:, 0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("x", [0.0, 0.3, 0.5, 1.0])
def test_a_continuous_bernoulli_is_exact_to_float32_across_one_half(x: float) -> None:
    logits = torch.cat([torch.linspace(-0.6, 0.6, 2401), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6])])
    logits.requires_grad_()
    log_prob = ContinuousBernoulli(logits[:, None]).log_prob(torch.tensor([x]))
    log_prob.sum().backward()
    value, derivative = continuous_bernoulli(logits.detach().double().numpy(), np.array(x))
    assert logits.grad is not None
    assert log_prob.detach().numpy() == pytest.approx(value, abs=2e-7)
    assert logits.grad.numpy() == pytest.approx(derivative, abs=1e-6)


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_a_continuous_bernoulli_is_finite_for_any_logit(x: float) -> None:
    logits = torch.tensor([30.0, 89.0, 200.0, 1e4])
    logits = torch.cat([-logits, logits]).requires_grad_()
    log_prob = ContinuousBernoulli(logits[:, None]).log_prob(torch.tensor([x]))
    log_prob.sum().backward()
    value, derivative = continuous_bernoulli(logits.detach().double().numpy(), np.array(x))
    assert logits.grad is not None
    assert log_prob.detach().numpy() == pytest.approx(value, rel=1e-6, abs=1e-5)
    assert logits.grad.numpy() == pytest.approx(derivative, abs=1e-6)
    mean = ContinuousBernoulli(logits.detach()).mean
    assert mean.numpy() == pytest.approx(x - derivative, abs=1e-6)


def derivative_of_the_mean(*logits: float) -> list[float]:
    of = torch.tensor(logits, requires_grad=True)
    ContinuousBernoulli(of).mean.sum().backward()
    assert of.grad is not None
    return of.grad.tolist()


def variance(logit: float) -> float:
    likelihood = one_pixel(logit)
    mean = likelihood.mean.item()
    ends = [1 / abs(logit), 1 - 1 / abs(logit)] if abs(logit) > 2 else None  # between which there is little
    return float(integrate.quad(lambda x: (x - mean) ** 2 * density(likelihood, x), 0, 1, points=ends)[0])


def test_the_derivative_of_the_mean_is_the_variance() -> None:
    logits = [-80.0, -3.0, -0.31, -0.29, -1e-6, 0.0, 1e-6, 0.29, 0.31, 3.0, 80.0, 1000.0]
    assert derivative_of_the_mean(*logits) == pytest.approx(list(map(variance, logits)), rel=1e-4)


def test_the_mean_has_a_derivative_near_black_too() -> None:
    """Ex-post density estimation takes the decoder's Jacobian, and always black pixels get such logits."""
    assert derivative_of_the_mean(-100.0, -1000.0) == pytest.approx([1e-4, 1e-6], rel=1e-4)


def p_value_of_samples(logit: float) -> float:
    """Kolmogorov and Smirnov's, under the distribution function (e^(x·l) − 1)/(e^l − 1)."""

    def below(x: np.ndarray) -> np.ndarray:
        return x if logit == 0 else np.expm1(x * logit) / np.expm1(logit)

    with drawing_from(generator("continuous Bernoulli")):
        drawn = ContinuousBernoulli(torch.full((5000, 1), logit)).sample()
    assert drawn.shape == (5000, 1)
    return float(stats.kstest(drawn[:, 0].double().numpy(), below).pvalue)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.0, -12.0, 12.0])
def test_samples_of_a_continuous_bernoulli_have_its_density(logit: float) -> None:
    assert p_value_of_samples(logit) > 1e-3


@pytest.mark.parametrize("logit", [-30.0, 30.0])
def test_so_have_samples_near_black_and_white(logit: float) -> None:
    assert p_value_of_samples(logit) > 1e-3


@pytest.mark.parametrize("sigma", [0.05, 0.25, 2.0])
def test_a_gaussian_integrates_to_one(sigma: float) -> None:
    mean = torch.tensor([0.3], dtype=torch.float64)
    likelihood = Gaussian(mean, torch.tensor(sigma, dtype=torch.float64).log())
    total, _ = integrate.quad(lambda x: density(likelihood, x), 0.3 - 10 * sigma, 0.3 + 10 * sigma)
    assert total == pytest.approx(1, abs=1e-8)


def test_a_gaussian_is_that_of_scipy() -> None:
    mean, x = torch.rand(6, generator=generator("mean")), torch.rand(4, 6, generator=generator("x"))
    found = Gaussian(mean, torch.tensor(math.log(0.3))).log_prob(x)
    expected = stats.multivariate_normal(mean.numpy(), 0.3**2 * np.eye(6)).logpdf(x.numpy())
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_samples_of_a_gaussian_have_its_mean_and_sigma() -> None:
    mean = torch.tensor([0.1, 0.9])
    with drawing_from(generator("gaussian")):
        drawn = Gaussian(mean.expand(20_000, 2), torch.tensor(math.log(0.3))).sample()
    assert drawn.mean(0).tolist() == pytest.approx(mean.tolist(), abs=4 * 0.3 / math.sqrt(20_000))
    assert drawn.std(0).tolist() == pytest.approx([0.3, 0.3], abs=4 * 0.3 / math.sqrt(2 * 20_000))
    assert abs(np.corrcoef(drawn.T.numpy())[0, 1]) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize("sigma", [None, "learned"])
def test_sigma_is_learned_unless_it_is_a_number(sigma: str | None) -> None:
    pixels = PixelDistribution("gaussian", sigma)
    assert [name for name, _ in pixels.named_parameters()] == ["log_sigma"]
    assert pixels.log_sigma.exp().item() == pytest.approx(0.25)
    output, x = torch.randn(3, 5, generator=generator("output")), torch.rand(3, 5, generator=generator("x"))
    pixels(output).log_prob(x).sum().backward()
    # d/d log σ of −e/2σ² − D log σ is e/σ² − D, summed over the images.
    expected = ((x - torch.sigmoid(output)).square().sum() / 0.25**2 - 15).item()
    assert isinstance(pixels.log_sigma.grad, Tensor)
    assert pixels.log_sigma.grad.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 1])
def test_a_sigma_that_is_a_number_stays_what_it_is(sigma: float) -> None:
    pixels = PixelDistribution("gaussian", sigma)
    assert not list(pixels.parameters())
    assert not pixels.state_dict()
    assert pixels.log_sigma.exp().item() == pytest.approx(sigma)
    assert pixels(torch.zeros(1)).log_prob(torch.tensor([0.5])).item() == pytest.approx(
        -math.log(sigma * math.sqrt(2 * math.pi)), abs=1e-6
    )


def test_what_the_decoders_output_means() -> None:
    output = torch.tensor([-200.0, -2.0, 0.0, 2.0, 200.0])
    of = {name: PixelDistribution(name)(output) for name in ("bernoulli", "continuous_bernoulli", "gaussian")}
    assert {name: type(likelihood) for name, likelihood in of.items()} == {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
        "gaussian": Gaussian,
    }
    for likelihood in of.values():
        assert ((likelihood.mean >= 0) & (likelihood.mean <= 1)).all()
        assert (likelihood.mean.diff() > 0).all()
    torch.testing.assert_close(of["gaussian"].mean, torch.sigmoid(output))
    assert not any(list(PixelDistribution(name).parameters()) for name in ("bernoulli", "continuous_bernoulli"))
