"""torch's CPU operators whose last bits depend on the maker of the CPU, computed by NumPy in their place.

torch gives products and linear algebra to MKL, and the operators below that work element by element as well. MKL takes
other code on an AMD CPU than on an Intel one, whatever instructions it is told to keep to. NumPy gives products and
linear algebra to OpenBLAS, which can be told which code to take (`aebench.numerics`), and has an exponential, a
logarithm and a root of its own, which are the same on every CPU with AVX2.

What torch computes with its own AVX2 code, or oneDNN, is the same for both makers and stays as it is: sums, sigmoid,
softmax, `log1p`, random numbers, the fused Adam. A test traces the operators that training and evaluation call, and
knows each that is neither replaced here nor found to be the same under emulation of both makers.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


def _array(tensor: Tensor) -> Array:
    """The memory of a tensor on the CPU, as NumPy sees it."""
    array: Array = tensor.detach().numpy()
    return array


# Element by element: `exp`, `exp_` and `exp.out`, and so on.
ELEMENTWISE: dict[str, np.ufunc] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
}


def _elementwise(function: np.ufunc) -> dict[str, Callable[..., Tensor]]:
    """The three forms of `function`, by what their names end with."""

    def out_of_place(x: Tensor) -> Tensor:
        floating = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        return into(floating, out=torch.empty_like(floating))

    def in_place(x: Tensor) -> Tensor:
        return into(x, out=x)

    def into(x: Tensor, *, out: Tensor) -> Tensor:
        with np.errstate(all="ignore"):  # infinities and NaN are answers, as torch has it
            function(_array(x), out=_array(_shaped(out, x.shape)))
        return out

    return {"": out_of_place, "_": in_place, ".out": into}


def _product(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`mm`, `bmm`, `mv`, `dot`: a @ b."""
    shape = (*a.shape[:-1], *b.shape[max(1, b.dim() - 1) :])
    result = a.new_empty(shape) if out is None else _shaped(out, shape)
    with np.errstate(all="ignore"):
        np.matmul(_array(a), _array(b), out=_array(result))
    return result


def _added_product(
    c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1, out: Tensor | None = None
) -> Tensor:
    """`addmm`, `baddbmm`, `addmv`: β·c + α·(a @ b), with c broadcast; where β is 0, c does not count, NaN or not."""
    product = _product(a, b)
    values = _array(product)
    with np.errstate(all="ignore"):
        if alpha != 1:
            values *= alpha
        if beta != 0:
            values += _array(c) if beta == 1 else beta * _array(c)
    if out is None:
        return product
    return _shaped(out, product.shape).copy_(product)


def _added_product_in_place(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return c.copy_(_added_product(c, a, b, beta=beta, alpha=alpha))


def _shaped(out: Tensor, shape: Sequence[int]) -> Tensor:
    """`out`, of that shape, which torch gives an `out` of another one."""
    return out if tuple(out.shape) == tuple(shape) else out.resize_(shape)


# Linear algebra of batches of matrices `[..., N, N]`; `info` is not 0 where a matrix cannot be decomposed.
def _cholesky_ex(a: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """`linalg_cholesky_ex`."""
    return _where_possible(lambda: np.linalg.cholesky(_array(a), upper=upper), a, check_errors)


def _inv_ex(a: Tensor, *, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """`linalg_inv_ex`."""
    return _where_possible(lambda: np.linalg.inv(_array(a)), a, check_errors)


def _solve_triangular(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """`linalg_solve_triangular`: X with A·X = B, or X·A = B; A `[..., N, N]`, B `[..., N, M]`."""
    if not left:
        return _solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    triangle = np.triu(_array(a)) if upper else np.tril(_array(a))
    if unitriangular:
        triangle[..., range(a.shape[-1]), range(a.shape[-1])] = 1
    # NumPy has no solver for triangles, and SciPy's takes one matrix at a time.
    return torch.from_numpy(np.linalg.solve(triangle, _array(b)))


def _where_possible(decompose: Callable[[], Array], a: Tensor, check_errors: bool) -> tuple[Tensor, Tensor]:
    """What `decompose` gives, and `info`; NaN and 1 where it fails, which for a batch does not say of which matrix."""
    info = a.new_zeros(a.shape[:-2], dtype=torch.int32)
    try:
        with np.errstate(all="ignore"):
            return torch.from_numpy(decompose()), info
    except np.linalg.LinAlgError as error:
        if check_errors:
            raise torch.linalg.LinAlgError(str(error)) from None  # type: ignore[attr-defined]
        return torch.full_like(a, torch.nan), info + 1


REPLACED: dict[str, Callable[..., Any]] = {
    **{f"{name}{form}": run for name, of in ELEMENTWISE.items() for form, run in _elementwise(of).items()},
    **{f"{name}{form}": _product for name in ("mm", "bmm", "mv", "dot") for form in ("", ".out")},
    **{f"{name}{form}": _added_product for name in ("addmm", "baddbmm", "addmv") for form in ("", ".out")},
    **{f"{name}_": _added_product_in_place for name in ("addmm", "baddbmm", "addmv")},
    "linalg_cholesky_ex": _cholesky_ex,
    "linalg_inv_ex": _inv_ex,
    "linalg_solve_triangular": _solve_triangular,
}
"""By torch's names, after `aten::`, what computes in their place on the CPU."""

_library: torch.library.Library | None = None


def replace() -> None:
    """Put `REPLACED` in the place of torch's own kernels, for this process and those that it forks; once is enough."""
    global _library
    if _library is not None:
        return
    _library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")  # that they are overridden
        for name, function in REPLACED.items():
            _library.impl(name, function, "CPU")
