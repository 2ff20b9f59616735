"""‖∂f/∂x‖²_F for each image, as penalties take it: a function of the weights that has a gradient.

f takes each row of a batch by itself. The cost is that of one derivative for each dimension of the code.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

# Dimensions of the code that are taken at once: a derivative is as large as an image.
AT_ONCE = 16


def norm_of_encoder(encode: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes g(x) `[B, L]` and ‖∂g/∂x‖²_F `[B]` for x `[B, D]`, row by row of the Jacobian, in reverse mode."""
    codes, pulled_back = vjp(encode, x)
    units = torch.eye(codes.shape[-1]).to(codes)
    rows = vmap(lambda unit: pulled_back(unit.expand_as(codes))[0].square().sum(-1), chunk_size=AT_ONCE)(units)
    return codes, rows.sum(0)


def norm_of_decoder(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """‖∂f/∂z‖²_F `[B]` for z `[B, L]`, column by column of the Jacobian, in forward mode."""
    units = torch.eye(z.shape[-1]).to(z)
    columns = vmap(lambda unit: jvp(decode, (z,), (unit.expand_as(z),))[1].square().sum(-1), chunk_size=AT_ONCE)(units)
    norm: Tensor = columns.sum(0)
    return norm
