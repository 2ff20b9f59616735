import itertools

import pytest
import torch

from aebench.models.likelihoods import Bernoulli
from aebench.randomness import generator


def test_bernoulli_sums_to_one_over_all_binary_images() -> None:
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    likelihood = Bernoulli(3 * torch.randn(1, 6, generator=generator("logits")))
    with torch.no_grad():
        assert likelihood.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert likelihood.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-5)


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
