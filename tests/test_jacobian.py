"""The norms of Jacobians against the Jacobians themselves, and their gradients against differences."""

from collections.abc import Callable

import pytest
import torch
from conftest import network
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from aebench.models import jacobian as module
from aebench.models.jacobian import norm_of_decoder, norm_of_encoder, random_signs
from aebench.models.networks import architectures, decoder, encoder
from aebench.randomness import drawing_from, generator

Norm = Callable[..., Tensor]
SHAPE = (1, 8, 8)


def of_encoder(function: nn.Module, x: Tensor, signs: Tensor | None = None) -> Tensor:
    return norm_of_encoder(function, x, signs)[1]


@pytest.fixture(params=[(a, end) for a in sorted(architectures()) for end in ("encoder", "decoder")], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Norm, Tensor]:
    architecture, end = request.param
    config = network(architecture, latent_dim=5)
    with drawing_from(generator("weights")):
        made = encoder(config, SHAPE, 5) if end == "encoder" else decoder(config, SHAPE)
    points = torch.rand(4, 64 if end == "encoder" else 5, generator=generator("points"), dtype=torch.float64)
    return made.double(), of_encoder if end == "encoder" else norm_of_decoder, points


@pytest.mark.parametrize("at_once", [16, 2])
def test_a_norm_is_that_of_the_jacobian(
    case: tuple[nn.Module, Norm, Tensor], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    function, norm, points = case
    expected = torch.stack([jacobian(function, point[None]).square().sum() for point in points])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(norm(function, points), expected)
    with torch.no_grad():
        torch.testing.assert_close(norm(function, points), expected)


def test_its_gradient_is_what_a_small_step_of_the_weights_changes(case: tuple[nn.Module, Norm, Tensor]) -> None:
    function, norm, points = case
    weights = list(function.parameters())
    gradients = torch.autograd.grad(norm(function, points).sum(), weights, materialize_grads=True)
    steps = [torch.randn(w.shape, generator=generator("step"), dtype=w.dtype) for w in weights]
    slope = sum((gradient * step).sum() for gradient, step in zip(gradients, steps, strict=True))
    found = []
    for length in (1e-6, -1e-6):
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight += length * step
            found.append(norm(function, points).sum())
            for weight, step in zip(weights, steps, strict=True):
                weight -= length * step
    torch.testing.assert_close(slope, (found[0] - found[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def test_an_estimate_is_without_bias(case: tuple[nn.Module, Norm, Tensor]) -> None:
    """Over all the signs that there are its mean is the norm; over two of them it is that of two estimates."""
    function, norm, points = case
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 5)[:, None].expand(-1, len(points), -1)
    with torch.no_grad():
        torch.testing.assert_close(norm(function, points, every), norm(function, points))
        first, second = (norm(function, points, signs) for signs in (every[3:4], every[4:5]))
        torch.testing.assert_close(norm(function, points, every[3:5]), (first + second) / 2)


def test_signs_are_fair() -> None:
    signs = random_signs(100, 10, 20, generator("signs"))
    assert signs.shape == (100, 10, 20)
    assert (signs.abs() == 1).all()
    assert signs.mean().abs() < 4 / 20_000**0.5


def test_that_of_a_linear_function_is_that_of_its_matrix() -> None:
    layer, x = nn.Linear(7, 3), torch.rand(2, 7)
    expected = layer.weight.square().sum().expand(2)
    codes, found = norm_of_encoder(layer, x)
    assert torch.equal(codes, layer(x))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(norm_of_decoder(layer, x), expected)
