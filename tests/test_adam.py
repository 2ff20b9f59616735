import torch

from aebench.randomness import generator
from aebench.training.adam import Adam


def test_it_is_torchs_adam_bit_for_bit() -> None:
    shapes, noise = [(5, 7), (5,), ()], generator("noise")
    ours = [torch.randn(shape, generator=noise).requires_grad_() for shape in shapes]
    theirs = [weight.detach().clone().requires_grad_() for weight in ours]
    optimizer, oracle = Adam(ours, 3e-3), torch.optim.Adam(theirs, lr=3e-3, fused=True)
    for _ in range(20):
        gradients = [torch.randn(shape, generator=noise) for shape in shapes]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        oracle.step()
        optimizer.step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(weight.requires_grad for weight in ours)


def test_gradients_that_lie_transposed_in_memory_are_read_as_what_they_are() -> None:
    gradient = torch.randn(5, 7, generator=generator("gradient"))
    ours = [torch.ones(5, 7) for _ in range(2)]
    for weight, laid_out in zip(ours, (gradient, gradient.T.contiguous().T), strict=True):
        Adam([weight], 0.1).step([laid_out])
    assert torch.equal(*ours)
