"""One contract for every file in models/likelihoods/, and what each of them computes."""

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import create_model
from scipy import integrate, stats
from torch import Tensor

from aebench import variants
from aebench.config import LikelihoodConfig
from aebench.errors import ConfigError
from aebench.models.likelihoods import Likelihood, PixelDistribution, likelihoods, make
from aebench.models.likelihoods.bernoulli import Bernoulli
from aebench.models.likelihoods.continuous_bernoulli import ContinuousBernoulli
from aebench.models.likelihoods.discretised_logistic import DiscretisedLogistic
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.parsing import parse, parse_with_parts
from aebench.randomness import drawing_from, generator

D = 9


def pixels(name: str, **settings: object) -> PixelDistribution:
    """The likelihood of that name, with `settings` beside what it must have."""
    return make(parse(likelihoods()[name], {**likelihoods()[name].EXAMPLE, "likelihood": name, **settings}))


@pytest.fixture(params=sorted(likelihoods()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def outputs(name: str, *shape: int, count: int = D, key: str = "output") -> Tensor:
    """What a decoder may give for images of `count` pixels, `[*shape, outputs·count]`."""
    return 1.5 * torch.randn(*shape, likelihoods()[name].OUTPUTS * count, generator=generator(key), dtype=torch.float64)


def drawn(likelihood: Likelihood, key: str = "samples") -> Tensor:
    with drawing_from(generator(key)):
        return likelihood.sample().detach()


def support(name: str) -> tuple[Tensor, Tensor]:
    """The values of a pixel, `[N]`, and the weights of a sum over them that is an integral where it has a density."""
    seen = drawn(pixels(name)(outputs(name, 2000)))
    if set(seen.unique().tolist()) <= {0.0, 1.0}:
        return torch.tensor([0.0, 1.0]).double(), torch.ones(2).double()
    if bool(((255 * seen) - (255 * seen).round() == 0).all()):
        return torch.arange(256).double() / 255, torch.ones(256).double()
    if bool(((seen >= 0) & (seen <= 1)).all()):
        nodes, weights = np.polynomial.legendre.leggauss(600)
        return torch.from_numpy((1 + nodes) / 2), torch.from_numpy(weights / 2)
    # By the trapezoidal rule, which takes a density with a kink too.
    values = torch.linspace(-30, 31, 200_001, dtype=torch.float64)
    return values, torch.full_like(values, values[1] - values[0])


def test_the_four_likelihoods_are_there() -> None:
    assert {"bernoulli", "continuous_bernoulli", "discretised_logistic", "gaussian"} <= set(likelihoods())


def test_it_says_what_it_is_on_which_data(name: str) -> None:
    """What it is on binarised pixels, or else why they cannot have it."""
    config = likelihoods()[name]
    assert parse(config, {**config.EXAMPLE, "likelihood": name}).note(binarized=False)
    assert bool(config.BINARIZED) != bool(config.REFUSED)


@pytest.mark.parametrize("clash", ["beta", "network"])
def test_its_settings_have_other_names_than_those_of_a_variant_in_whose_block_they_stand(clash: str) -> None:
    """Whether or not anybody has chosen it; a variant without a likelihood may use the name."""
    mine = create_model("Mine", __base__=LikelihoodConfig, **{clash: (float, 1.0)})  # type: ignore[call-overload]
    kinds, known = {name: variants.kinds()[name] for name in ("ae", "cvae")}, {"likelihood": {"mine": mine}}
    message = f"{clash}: found as a setting of both the variant cvae and the likelihood mine, "
    for kind in kinds:
        with pytest.raises(ConfigError, match=f"^{message}"):
            parse_with_parts(kinds, "kind", known, {"kind": kind}, "models.mine")
    assert parse_with_parts({"ae": kinds["ae"]}, "kind", known, {"kind": "ae"}, "models.mine").kind == "ae"


def test_it_is_normalised(name: str) -> None:
    if name == "bernoulli":  # on grey pixels it is no density
        assert support(name)[0].tolist() == [0, 1]
    values, weights = support(name)
    of_each = pixels(name)(outputs(name, 30, 1, count=1))
    for mass in (of_each.log_prob(values[:, None]).exp(), torch.no_grad()(of_each.log_prob)(values[:, None]).exp()):
        torch.testing.assert_close(mass @ weights, torch.ones(30).double(), rtol=0, atol=1e-6)


def test_its_mean_is_that_of_its_density(name: str) -> None:
    """Half a grey value is what the mean of grey values may differ, since it is taken before they are rounded."""
    values, weights = support(name)
    of_each = pixels(name)(outputs(name, 30, 1, count=1))
    mean = of_each.log_prob(values[:, None]).exp() @ (weights * values)
    tolerance = 0.5 / 255 if name == "discretised_logistic" else 1e-6
    torch.testing.assert_close(of_each.mean[:, 0, 0], mean, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", range(4))
def test_its_samples_have_its_density(name: str, case: int) -> None:
    count = 20_000
    output = 0.4 * outputs(name, count=1, key=f"output {case}").float()
    likelihood = pixels(name)(output.expand(count, -1))
    seen = drawn(likelihood)[:, 0].double()
    values, weights = support(name)
    assert bool((seen.mean() - likelihood.mean[0]).abs() < 4 * seen.std() / math.sqrt(count) + 0.5 / 255)
    mass = (pixels(name)(output.double()).log_prob(values[:, None]).exp() * weights).detach().cumsum(0)
    # Intervals between the values, where they are few, or their nodes, of about as many samples each.
    ends = np.searchsorted(mass.numpy(), np.linspace(0, 1, 21)[1:-1])
    ends = np.unique(ends[(mass.numpy()[ends] > 1e-3) & (mass.numpy()[ends] < 1 - 1e-3)])
    middles = (values[ends] + values[np.minimum(ends + 1, len(values) - 1)]) / 2
    shares = np.diff(mass.numpy()[ends], prepend=0, append=1)
    found = np.diff(np.searchsorted(np.sort(seen.numpy()), middles.numpy()), prepend=0, append=count)
    assert len(shares) > 1
    assert stats.chisquare(found, count * shares / shares.sum()).pvalue > 1e-3


def test_its_gradient_is_that_of_its_density(name: str) -> None:
    values = support(name)[0]
    values = values[(values >= 0) & (values <= 1)]
    values = values[torch.linspace(0, len(values) - 1, 6).long().unique()]
    made = pixels(name).double()
    output = outputs(name, 5, 1, count=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda output: made(output).log_prob(values[:, None]), (output,))
    assert torch.autograd.gradcheck(lambda output: made(output).mean, (output,))


def test_its_curvature_is_the_mean_square_of_its_gradient(name: str) -> None:
    values, weights = support(name)
    output = outputs(name, 8, 1, count=1).expand(-1, len(values), -1).clone().requires_grad_()
    log_prob = pixels(name)(output).log_prob(values[:, None])
    (score,) = torch.autograd.grad(log_prob.sum(), output)
    expected = torch.einsum("nv,nvo->no", log_prob.detach().exp() * weights, score**2)
    found = pixels(name)(output[:, 0].detach()).curvature
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-10)
    torch.testing.assert_close(pixels(name)(output[:, 0].detach().float()).curvature.double(), found, rtol=1e-4, atol=0)


def test_of_its_samples_the_gradients_have_that_curvature(name: str) -> None:
    """All outputs of an image, in the decoder's order."""
    count = 20_000
    output = outputs(name, key="curved")
    many = output.expand(count, -1).clone().requires_grad_()
    likelihood = pixels(name)(many)
    (score,) = torch.autograd.grad(likelihood.log_prob(drawn(likelihood)).sum(), many)
    error = score.square().std(0) / math.sqrt(count)
    assert bool(((score.square().mean(0) - pixels(name)(output).curvature).abs() < 5 * error + 1e-6).all())


@pytest.mark.parametrize("size", [20.0, 200.0, 1e4])
def test_it_is_finite_for_any_output(name: str, size: float) -> None:
    count = likelihoods()[name].OUTPUTS
    output = torch.tensor([*itertools.product([-size, 0.0, size], repeat=count)]).requires_grad_()
    for x in (0.0, 1 / 255, 0.2, 1.0):
        likelihood = pixels(name)(output)
        log_prob = likelihood.log_prob(torch.tensor([x]))
        (gradient,) = torch.autograd.grad(log_prob.sum(), output)
        assert log_prob.isfinite().all()
        assert gradient.isfinite().all()
    assert ((likelihood.mean >= 0) & (likelihood.mean <= 1)).all()
    assert likelihood.curvature.isfinite().all()
    assert (likelihood.curvature > 0).all()
    assert drawn(likelihood).isfinite().all()


def test_one_image_is_scored_under_many_samples_of_z(name: str) -> None:
    made, output = pixels(name), outputs(name, 5, 1).float()
    for images in (drawn(made(output[0])), drawn(made(outputs(name, 4).float()))):
        of_each = [[made(o[0]).log_prob(image) for image in images] for o in output]
        one_by_one = torch.stack([torch.stack(row) for row in of_each])
        assert made(output).log_prob(images).shape == (5, len(images))
        torch.testing.assert_close(made(output).log_prob(images), one_by_one)
        with torch.no_grad():
            torch.testing.assert_close(made(output).log_prob(images), one_by_one)
    likelihood = made(output)
    assert likelihood.mean.shape == drawn(likelihood).shape == (5, 1, D)
    assert likelihood.curvature.shape == likelihood.output.shape == output.shape


def test_pixels_are_independent_and_the_decoders_values_stand_one_after_the_other(name: str) -> None:
    made, output = pixels(name), outputs(name)
    of_pixel = output.unflatten(-1, (-1, D))  # [outputs, D]
    x = drawn(made(output))
    each = [made(of_pixel[:, i]) for i in range(D)]
    total = sum(one.log_prob(x[i : i + 1]).item() for i, one in enumerate(each))
    assert made(output).log_prob(x).item() == pytest.approx(total, abs=1e-5)
    torch.testing.assert_close(made(output).mean, torch.cat([one.mean for one in each]))
    curvature = torch.stack([one.curvature for one in each], dim=-1)
    torch.testing.assert_close(made(output).curvature.unflatten(-1, (-1, D)), curvature)


@pytest.mark.parametrize("training", [True, False])
def test_in_training_as_in_evaluation_nothing_is_drawn_or_kept(name: str, training: bool) -> None:
    made, output = pixels(name).train(training), outputs(name, 3).float().requires_grad_()
    state, before = torch.get_rng_state(), {key: value.clone() for key, value in made.state_dict().items()}
    x = torch.rand(3, D, generator=generator("x"))
    log_prob = made(output).log_prob(x)
    log_prob.sum().backward()
    for learned in (output, *made.parameters()):
        assert learned.grad is not None
        assert bool((learned.grad != 0).any())
    assert torch.equal(made.train(not training)(output).log_prob(x), log_prob)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in made.state_dict().items())


# On both sides of the point where the continuous Bernoulli goes over to its series, and at its ends.
LOGITS = [0.0, 1e-6, -1e-6, 0.1, 0.29, -0.29, 0.31, -0.31, 0.99, 1.0, -3.0, 12.0, 30.0, -30.0]


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
    torch.testing.assert_close(likelihood.output, logits)  # not overwritten


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


@pytest.mark.parametrize("settings", [{}, {"sigma": None}, {"sigma": "learned"}])
def test_sigma_is_learned_unless_it_is_a_number(settings: dict[str, str | None]) -> None:
    gaussian = pixels("gaussian", **settings)
    assert [name for name, _ in gaussian.named_parameters()] == ["log_sigma"]
    assert isinstance(gaussian.log_sigma, Tensor)
    assert gaussian.log_sigma.exp().item() == pytest.approx(0.25)
    output, x = torch.randn(3, 5, generator=generator("output")), torch.rand(3, 5, generator=generator("x"))
    gaussian(output).log_prob(x).sum().backward()
    # d/d log σ of −e/2σ² − D log σ is e/σ² − D, summed over the images.
    expected = ((x - torch.sigmoid(output)).square().sum() / 0.25**2 - 15).item()
    assert isinstance(gaussian.log_sigma.grad, Tensor)
    assert gaussian.log_sigma.grad.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 1])
def test_a_sigma_that_is_a_number_stays_what_it_is(sigma: float) -> None:
    gaussian = pixels("gaussian", sigma=sigma)
    assert not list(gaussian.parameters())
    assert not gaussian.state_dict()
    assert isinstance(gaussian.log_sigma, Tensor)
    assert gaussian.log_sigma.exp().item() == pytest.approx(sigma)
    assert gaussian(torch.zeros(1)).log_prob(torch.tensor([0.5])).item() == pytest.approx(
        -math.log(sigma * math.sqrt(2 * math.pi)), abs=1e-6
    )


def test_the_curvature_of_a_gaussian_whose_mean_is_given_is_its_precision() -> None:
    found = Gaussian(torch.tensor([0.2, 0.7]), torch.tensor(math.log(0.5))).curvature
    torch.testing.assert_close(found, torch.tensor([4.0, 4.0]))


def test_what_the_decoders_output_means() -> None:
    output = torch.tensor([-200.0, -2.0, 0.0, 2.0, 200.0])
    of = {name: pixels(name)(output) for name in ("bernoulli", "continuous_bernoulli", "gaussian")}
    assert {name: type(likelihood) for name, likelihood in of.items()} == {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
        "gaussian": Gaussian,
    }
    for likelihood in of.values():
        assert (likelihood.mean.diff() > 0).all()
    torch.testing.assert_close(of["gaussian"].mean, torch.sigmoid(output))
    assert not any(list(pixels(name).parameters()) for name in set(likelihoods()) - {"gaussian"})


@pytest.mark.parametrize("logit", [*LOGITS, 100.0, -1000.0])
def test_the_curvature_of_a_continuous_bernoulli_is_its_variance(logit: float) -> None:
    in_float32 = ContinuousBernoulli(torch.tensor([logit])).curvature.item()
    assert in_float32 == pytest.approx(variance(logit), rel=1e-5)


def discretised(location: float, scale: float) -> np.ndarray:
    """The probabilities of the 256 values, `[256]`, from their definition in float64, whichever tail they lie in."""
    ends = (np.arange(255) + 0.5) / 255
    below = np.concatenate([[0], stats.logistic.cdf(ends, location, scale), [1]])
    above = np.concatenate([[1], stats.logistic.sf(ends, location, scale), [0]])
    return np.where(np.append(ends, 2) < location, np.diff(below), -np.diff(above))


GREY = torch.arange(256)[:, None] / 255


@pytest.mark.parametrize("a", [-3.0, -0.5, -0.4971, 0.0, 0.0019, 0.3, 0.5, 0.62, 3.0])
@pytest.mark.parametrize("b", [-1e4, -20.0, -2.0, 0.0, 1.0, 20.0, 1e4])
def test_a_discretised_logistic_has_the_probabilities_of_a_rounded_one(a: float, b: float) -> None:
    likelihood = DiscretisedLogistic(torch.tensor([a, b]))
    location, scale = likelihood.location.item(), likelihood.log_scale.double().exp().item()
    expected = discretised(location, scale)
    found = likelihood.log_prob(GREY).double()
    assert found.exp().sum().item() == pytest.approx(1, abs=3e-5)
    known = expected > 1e-290
    # In units of the smallest scale a pixel's distance from the location has an error of 6e-8/5e-4.
    assert found.numpy()[known] == pytest.approx(np.log(expected[known]), rel=1e-6, abs=1.3e-4)
    mean = float(expected @ np.arange(256)) / 255
    assert likelihood.mean.item() == pytest.approx(mean, abs=0.5 / 255)
    if scale > 0.02:
        assert likelihood.mean.item() == pytest.approx(mean, abs=1e-5)


def test_far_from_its_location_a_discretised_logistic_falls_by_the_distance_in_scales() -> None:
    for location in (-30.0, 31.0, 1e4):
        likelihood = DiscretisedLogistic(torch.tensor([location - 0.5, -20.0]))
        scale = likelihood.log_scale.double().exp()
        inner = likelihood.log_prob(GREY[1:-1]).double()
        nearer_end = (GREY[1:-1, 0].double() - location).abs() - 0.5 / 255
        torch.testing.assert_close(
            inner, -nearer_end / scale + torch.log(-torch.expm1(-1 / (255 * scale))), rtol=1e-6, atol=0
        )


def test_the_scale_of_a_discretised_logistic_stays_between_its_ends() -> None:
    log_scale = DiscretisedLogistic(torch.tensor([0.0, 0.0, 0.0, -1e30, 0.0, 1e30])).log_scale
    assert log_scale.exp().tolist() == pytest.approx([math.exp(-7) / 2, 0.25, 1])


def test_black_and_white_may_be_certain_to_a_discretised_logistic() -> None:
    for a, x in ((-1.0, 0.0), (1.0, 1.0)):
        assert DiscretisedLogistic(torch.tensor([a, -20.0])).log_prob(torch.tensor([x])).item() == pytest.approx(0)


def test_its_samples_are_grey_values() -> None:
    seen = 255 * drawn(DiscretisedLogistic(outputs("discretised_logistic", 500).float()))
    torch.testing.assert_close(seen, seen.round(), rtol=0, atol=1e-4)
    assert {0, 255} < set(seen.round().int().flatten().tolist())


def test_the_curvature_of_a_wide_discretised_logistic_is_nearly_that_of_a_logistic() -> None:
    """1/3s² by the location and (3 + π²)/9 by log s, where rounding and the ends hide little."""
    output = torch.tensor([0.0, -1.0], requires_grad=True)
    likelihood = DiscretisedLogistic(output)
    (slope,) = torch.autograd.grad(likelihood.log_scale.sum(), output)
    scale, slope_of_log_scale = likelihood.log_scale.exp().item(), slope[1].item()
    by_location, by_log_scale = likelihood.curvature.tolist()
    assert 0.01 < scale < 0.1
    assert by_location == pytest.approx(1 / (3 * scale**2), rel=0.01)
    assert by_log_scale == pytest.approx((3 + math.pi**2) / 9 * slope_of_log_scale**2, rel=0.01)
