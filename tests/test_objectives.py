import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from aebench.models.latents import UnitNormalMixture, diagonal_normal, reparameterised, unit_normal
from aebench.models.likelihoods.bernoulli import Bernoulli
from aebench.models.objectives import (
    binary_cross_entropy,
    bits_per_dimension,
    importance_weighted_bound,
    importance_weighted_loss,
    kl_weight,
    squared_error,
    variational_loss,
)
from aebench.randomness import drawing_from, generator


def normal(*key: str | int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=generator(*key))


def test_squared_error_sums_over_pixels_and_keeps_the_batch() -> None:
    x, x_hat = torch.tensor([[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert squared_error(x, x_hat).tolist() == [1.25, 3.0]


def test_binary_cross_entropy_is_in_nats_and_bounded_at_the_ends() -> None:
    assert binary_cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])).item() == pytest.approx(
        2 * math.log(2)
    )
    assert 15 < binary_cross_entropy(torch.tensor([[1.0]]), torch.tensor([[0.0]])).item() < 17


def test_a_pixel_of_256_equally_likely_values_has_8_bits() -> None:
    equal = -3 * math.log(256)
    assert bits_per_dimension(equal, 3) == pytest.approx(8)
    torch.testing.assert_close(bits_per_dimension(torch.tensor([equal, 0.0]), 3), torch.tensor([8.0, 0.0]))
    assert bits_per_dimension(np.array([equal, -6 * math.log(2)]), 3) == pytest.approx([8, 2])


def test_kl_to_a_unit_normal_is_the_papers_formula() -> None:
    mean, log_variance, prior_mean = (normal(name, shape=(5, 4)) for name in ("mean", "variance", "prior"))
    variance = log_variance.exp()
    expected = 0.5 * ((mean - prior_mean) ** 2 + variance - log_variance - 1).sum(-1)
    found = kl_divergence(diagonal_normal(mean, log_variance), unit_normal(prior_mean))
    torch.testing.assert_close(found, expected)


def test_the_density_of_a_mixture_is_that_of_torchs_general_one() -> None:
    means, log_weights = 3 * normal("means", shape=(4, 5)), torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    general = MixtureSameFamily(Categorical(logits=log_weights), Independent(Normal(means, 1.0), 1))
    z = torch.cat([normal("z", shape=(7, 1, 5)), 30 + normal("far", shape=(7, 1, 5))])
    found = UnitNormalMixture(means, log_weights).log_prob(z)
    assert found.shape == (14, 1)
    torch.testing.assert_close(found, general.log_prob(z), rtol=1e-5, atol=1e-4)


def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight() -> None:
    log_weights = torch.tensor([[0.0, -1000.0], [math.log(3), -1000.0]])
    assert importance_weighted_bound(log_weights).tolist() == pytest.approx([math.log(2), -1000.0])


@pytest.mark.parametrize(
    ("beta", "warmup", "epoch", "expected"),
    [(2.0, 0, 1, 2.0), (1.0, 4, 1, 0.25), (1.0, 4, 3, 0.75), (1.0, 4, 4, 1.0), (1.0, 4, 9, 1.0), (3.0, 4, None, 3.0)],
)
def test_beta_rises_linearly(beta: float, warmup: int, epoch: int | None, expected: float) -> None:
    assert kl_weight(beta, warmup, epoch) == expected


def test_a_reparameterised_sample_is_what_torch_draws_from_the_same_noise() -> None:
    q = diagonal_normal(normal("q", shape=(4, 2)), normal("v", shape=(4, 2)))
    with drawing_from(generator("noise")):
        expected = q.rsample((5,))
    assert torch.equal(reparameterised(q, normal("noise", shape=(5, 4, 2))), expected)


def linear_decoder(z: torch.Tensor) -> Bernoulli:
    return Bernoulli(z @ normal("decoder", shape=(2, 6)))


def test_the_variational_loss_estimates_the_negative_elbo() -> None:
    mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]])
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    q, prior = diagonal_normal(mean, log_variance), unit_normal(torch.zeros(2))
    many = q.expand((20000,))
    z = reparameterised(many, normal("noise", shape=(20000, 2)))
    terms = variational_loss(many, prior, linear_decoder, x, z, beta=2.0)
    grid = torch.linspace(-8, 8, 321)
    z = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), dim=-1).reshape(-1, 2)
    with torch.no_grad():
        density = q.log_prob(z).exp() * (grid[1] - grid[0]) ** 2
        exact = -(density * linear_decoder(z).log_prob(x)).sum().item()
    noise = terms["distortion_nats"].std().item() / math.sqrt(20000)
    assert abs(terms["distortion_nats"].mean().item() - exact) < 4 * noise
    torch.testing.assert_close(terms["loss"], terms["distortion_nats"] + 2 * terms["rate_nats"])
    assert terms["rate_nats"][0].item() == pytest.approx(
        0.5 * sum(m**2 + math.exp(v) - v - 1 for m, v in zip([0.5, -1.0], [-1.0, 0.3], strict=True))
    )


def test_the_importance_weighted_loss_with_one_sample_has_the_elbo_as_its_mean_and_falls_with_more() -> None:
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    q, prior = diagonal_normal(torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]])), unit_normal(torch.zeros(2))
    many = q.expand((20000,))
    means, errors = {}, {}
    for samples in (1, 5):
        z = reparameterised(many, normal("noise", shape=(samples, 20000, 2)))
        loss = importance_weighted_loss(many, prior, linear_decoder, x, z)["loss"]
        means[samples], errors[samples] = loss.mean().item(), loss.std().item() / math.sqrt(20000)
    z = reparameterised(many, normal("other", shape=(20000, 2)))
    elbo = variational_loss(many, prior, linear_decoder, x, z)["loss"].mean().item()
    assert abs(means[1] - elbo) < 6 * errors[1]
    assert means[5] < means[1] - 6 * errors[5]


def test_the_importance_weighted_loss_is_minus_the_log_of_the_mean_of_its_weights() -> None:
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]])
    mean, log_variance = torch.tensor([[0.5, -1.0], [0.1, 0.2]]), torch.tensor([[-1.0, 0.3], [0.2, -0.4]])
    q, prior = diagonal_normal(mean, log_variance), unit_normal(torch.zeros(2))
    z = mean + torch.exp(0.5 * log_variance) * normal("noise", shape=(7, 2, 2))
    terms = importance_weighted_loss(q, prior, linear_decoder, x, z)
    for image in range(2):
        weights = []
        for sample in z[:, image]:
            p = linear_decoder(sample[None]).mean[0]
            px = torch.where(x[image] == 1, p, 1 - p).prod().item()
            densities = [
                stats.norm(loc, scale).pdf(value)
                for value, m, v in zip(sample.tolist(), mean[image].tolist(), log_variance[image].tolist(), strict=True)
                for loc, scale in ((0, 1), (m, math.exp(v / 2)))
            ]
            weights.append(px * densities[0] * densities[2] / (densities[1] * densities[3]))
        assert terms["loss"][image].item() == pytest.approx(-math.log(sum(weights) / 7), rel=1e-4)


def test_gradients_reach_encoder_and_decoder() -> None:
    mean = torch.zeros(3, 2, requires_grad=True)
    weight = normal("w", shape=(2, 4)).requires_grad_()
    q = diagonal_normal(mean, torch.zeros(3, 2))
    z = reparameterised(q, normal("n", shape=(3, 2)))
    terms = variational_loss(q, unit_normal(torch.zeros(2)), lambda z: Bernoulli(z @ weight), torch.ones(3, 4), z)
    terms["loss"].mean().backward()
    assert mean.grad is not None
    assert weight.grad is not None
    assert mean.grad.abs().sum() > 0
    assert weight.grad.abs().sum() > 0


def test_the_scipy_normal_agrees_with_ours() -> None:
    q = diagonal_normal(torch.tensor([1.0]), torch.tensor([math.log(4.0)]))
    assert q.log_prob(torch.tensor([2.5])).item() == pytest.approx(stats.norm(1, 2).logpdf(2.5))
