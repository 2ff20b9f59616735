"""The maximum mean discrepancy, against the definition's double sums and against what it must be on average."""

import torch
from torch import Tensor
from torch.func import vmap

from aebench.models.divergences import mmd
from aebench.randomness import generator


def drawn(batch: int, *key: object, latents: int = 3) -> Tensor:
    return torch.randn(batch, latents, generator=generator("sample", *key), dtype=torch.float64)


def by_definition(codes: Tensor, samples: Tensor) -> float:
    """Algorithm 2 of Tolstikhin et al. 2018, sum by sum."""
    count, scale = len(codes), 2 * codes.shape[1]

    def k(a: Tensor, b: Tensor) -> float:
        return scale / (scale + float((a - b).square().sum()))

    pairs = [(i, j) for i in range(count) for j in range(count)]
    within = sum(k(codes[i], codes[j]) + k(samples[i], samples[j]) for i, j in pairs if i != j)
    across = sum(k(codes[i], samples[j]) for i, j in pairs)
    return within / (count * (count - 1)) - 2 * across / count**2


def test_its_mean_is_the_u_statistic() -> None:
    for batch in (2, 3, 7):
        codes, samples = 2 * drawn(batch, "codes") + 1, drawn(batch, "prior")
        found = mmd(codes, samples)
        assert found.shape == (batch,)
        torch.testing.assert_close(found.mean().item(), by_definition(codes, samples))
        # An image's number is about its own code and its own sample: those of the others may change places.
        order = torch.tensor([0, *range(batch - 1, 0, -1)])
        torch.testing.assert_close(mmd(codes[order], samples[order])[0], found[0])
        torch.testing.assert_close(mmd(codes, samples) - mmd(samples, codes), torch.zeros_like(found))


def test_it_is_without_bias_whatever_the_size_of_the_batch() -> None:
    """Zero on average where both samples have one distribution, and the same for 2 codes as for 2000 where not."""
    codes, samples = drawn(16_000, "codes"), drawn(16_000, "prior")
    pairs = codes.view(-1, 2, 3), samples.view(-1, 2, 3)
    few = vmap(mmd)(*pairs).mean(-1)
    error = few.std() / len(few) ** 0.5
    assert few.mean().abs() < 4 * error
    moved = vmap(mmd)(pairs[0] + 1, pairs[1]).mean(-1)
    many = mmd(codes[:2000] + 1, samples[:2000]).mean()
    assert many > 10 * error
    assert (moved.mean() - many).abs() < 4 * moved.std() / len(moved) ** 0.5 + 0.01


def test_a_batch_of_one_image_has_nothing_to_compare() -> None:
    code = drawn(1, "codes").requires_grad_()
    found = mmd(code, drawn(1, "prior"))
    assert torch.equal(found, torch.zeros(1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad((code.sum(-1) + found).sum(), code)
    assert torch.equal(gradient, torch.ones_like(code))
