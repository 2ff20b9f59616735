"""‖∂f/∂x‖²_F for each image, as penalties take it: a function of the weights that has a gradient.

f takes each row of a batch by itself. Exactly, this takes one derivative for each dimension of the code. An unbiased
estimate takes fewer: E‖Jᵀv‖² = E‖J v‖² = ‖J‖²_F for a v of independent signs (Hutchinson 1990).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

# Derivatives that are taken at once: each is as large as the images.
AT_ONCE = 16


def random_signs(probes: int, size: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    """For an estimate from so many derivatives: −1 or 1 by a fair coin, `[P, B, L]`."""
    return 1 - 2 * (torch.rand(probes, size, latent_dim, generator=generator) < 0.5).float()


def norm_of_encoder(
    encode: Callable[[Tensor], Tensor], x: Tensor, signs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Codes g(x) `[B, L]` and ‖∂g/∂x‖²_F `[B]` for x `[B, D]`, in reverse mode; estimated where there are `signs`."""
    codes, pulled_back, *_ = vjp(encode, x)
    return codes, _squares(lambda v: pulled_back(v)[0], codes, signs)


def norm_of_decoder(decode: Callable[[Tensor], Tensor], z: Tensor, signs: Tensor | None = None) -> Tensor:
    """‖∂f/∂z‖²_F `[B]` for z `[B, L]`, in forward mode; estimated where there are `signs`."""
    return _squares(lambda v: jvp(decode, (z,), (v,))[1], z, signs)


def _squares(derivative: Callable[[Tensor], Tensor], codes: Tensor, signs: Tensor | None) -> Tensor:
    """The sum of the squared lengths `[B]` of derivatives along the units of the code, or along `signs`."""
    if signs is None:
        directions = torch.eye(codes.shape[-1]).to(codes)[:, None].expand(-1, *codes.shape)
    else:
        directions = signs.to(codes) * len(signs) ** -0.5
    squares: Tensor = vmap(lambda v: derivative(v).square().sum(-1), chunk_size=AT_ONCE)(directions)
    return squares.sum(0)
