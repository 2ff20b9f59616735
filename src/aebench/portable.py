"""torch's CPU operators whose last bits depend on the maker of the CPU, computed by NumPy in their place.

torch gives products and linear algebra to MKL, and the operators below that work element by element as well. MKL takes
other code on an AMD CPU than on an Intel one, whatever instructions it is told to keep to. NumPy gives products and
linear algebra to OpenBLAS, which can be told which code to take (`aebench.numerics`). Its exponential, logarithm and
root of single precision are its own, the same on every CPU with AVX2; the other functions it takes from the C library,
glibc, which looks at the instructions that a CPU has, not at its maker.

What torch computes with its own AVX2 code, or oneDNN, is the same for both makers and stays as it is: sums, sigmoid,
softmax, `log1p`, random numbers, the fused Adam. A test traces the operators that training and evaluation call, and
knows each that is neither replaced here nor found to be the same under emulation of both makers.

Single and double precision are replaced, and complex numbers of both; others end in NumPy's error.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
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
        whole = not (x.is_floating_point() or x.is_complex())
        floating = x.to(torch.get_default_dtype()) if whole else x
        return into(floating, out=torch.empty_like(floating))

    def in_place(x: Tensor) -> Tensor:
        return into(x, out=x)

    def into(x: Tensor, *, out: Tensor) -> Tensor:
        with np.errstate(all="ignore"):  # infinities and NaN are answers, as torch has it
            function(_array(x), out=_array(_shaped(out, x.shape)))
        return out

    return {"": out_of_place, "_": in_place, ".out": into}


# How many dimensions the factors of each product have.
PRODUCTS = {"mm": (2, 2), "bmm": (3, 3), "mv": (2, 1), "dot": (1, 1)}
# What adds to a product.
ADDED = {"addmm": "mm", "baddbmm": "bmm", "addmv": "mv"}


def _product(name: str) -> Callable[..., Tensor]:
    """The product a @ b of that name; where torch does not multiply, NumPy is not asked."""

    def product(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
        inner = max(0, b.dim() - 2)
        fit = (a.dim(), b.dim()) == PRODUCTS[name] and a.shape[-1] == b.shape[inner] and a.shape[:-2] == b.shape[:-2]
        if not fit or a.dtype != b.dtype:
            raise RuntimeError(f"{name}: no product of {_described(a)} and {_described(b)}")
        shape = (*a.shape[:-1], *b.shape[inner + 1 :])
        result = a.new_empty(shape) if out is None else _shaped(out, shape)
        with np.errstate(all="ignore"):
            np.matmul(_array(a), _array(b), out=_array(result))
        return result

    return product


def _added_product(name: str) -> dict[str, Callable[..., Tensor]]:
    """Its forms by their endings: β·c + α·(a @ b), c broadcast; where β is 0, c does not count, NaN or not."""
    product_of = _product(ADDED[name])

    def out_of_place(
        c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1, out: Tensor | None = None
    ) -> Tensor:
        product = product_of(a, b)
        if c.dtype != product.dtype:
            raise RuntimeError(f"{name}: no sum of {_described(c)} and {_described(product)}")
        added, values = _array(c.expand_as(product)), _array(product)
        with np.errstate(all="ignore"):
            if alpha != 1:
                values *= alpha
            if beta != 0:
                values += added if beta == 1 else beta * added
        return product if out is None else _shaped(out, product.shape).copy_(product)

    def in_place(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        return c.copy_(out_of_place(c, a, b, beta=beta, alpha=alpha))

    return {"": out_of_place, "_": in_place, ".out": out_of_place}


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _shaped(out: Tensor, shape: Sequence[int]) -> Tensor:
    """`out`, of that shape, which torch gives an `out` of another one."""
    return out if tuple(out.shape) == tuple(shape) else out.resize_(shape)


# Linear algebra of batches of matrices `[..., N, N]`; `info` is not 0 where a matrix cannot be decomposed.
def _cholesky_ex(
    a: Tensor, *, upper: bool = False, check_errors: bool = False, L: Tensor | None = None, info: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`linalg_cholesky_ex`."""
    factor, failed = _each(partial(np.linalg.cholesky, upper=upper), _array(a))
    failed |= ~np.isfinite(factor).all((-2, -1))  # LAPACK does not notice NaN
    return _checked("cholesky", factor, failed, check_errors, L, info)


def _inv_ex(
    a: Tensor, *, check_errors: bool = False, inverse: Tensor | None = None, info: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`linalg_inv_ex`."""
    return _checked("inv", *_each(np.linalg.inv, _array(a)), check_errors, inverse, info)


def _solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False, out: Tensor | None = None
) -> Tensor:
    """`linalg_solve_triangular`: X with A·X = B, or X·A = B; A `[..., N, N]`, B `[..., N, M]`; NaN if A is singular."""
    if not left:
        solution = _solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    else:
        triangle = np.triu(_array(a)) if upper else np.tril(_array(a))
        if unitriangular:
            triangle[..., range(a.shape[-1]), range(a.shape[-1])] = 1
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        # NumPy has no solver for triangles, and SciPy's takes one matrix at a time.
        whole = (np.broadcast_to(array, (*batch, *array.shape[-2:])) for array in (triangle, _array(b)))
        solution = torch.from_numpy(_each(np.linalg.solve, *whole)[0])
    return solution if out is None else _shaped(out, solution.shape).copy_(solution)


def _each(function: Callable[..., Array], *matrices: Array) -> tuple[Array, Array]:
    """What `function` gives for each matrix of a batch, or of several; NaN where it fails, and where that is."""
    try:
        with np.errstate(all="ignore"):
            return function(*matrices), np.zeros(matrices[0].shape[:-2], bool)
    except np.linalg.LinAlgError:  # which does not say for which matrix
        if matrices[0].ndim == 2:
            return np.full_like(matrices[-1], np.nan), np.ones((), bool)
        each = [_each(function, *one) for one in zip(*matrices, strict=True)]
        return np.stack([result for result, _ in each]), np.stack([failed for _, failed in each])


def _checked(
    what: str, result: Array, failed: Array, check_errors: bool, out: Tensor | None, info: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both as torch has them, in `out` and `info` where these are given."""
    if check_errors and failed.any():
        raise torch.linalg.LinAlgError(f"linalg.{what}: a matrix cannot be decomposed")  # type: ignore[attr-defined]
    tensors = torch.from_numpy(result), torch.from_numpy(np.asarray(failed, np.int32))
    if out is None or info is None:
        return tensors
    return _shaped(out, tensors[0].shape).copy_(tensors[0]), _shaped(info, tensors[1].shape).copy_(tensors[1])


REPLACED: dict[str, Callable[..., Any]] = {
    **{f"{name}{form}": run for name, of in ELEMENTWISE.items() for form, run in _elementwise(of).items()},
    **{f"{name}{form}": _product(name) for name in PRODUCTS for form in ("", ".out")},
    **{f"{name}{form}": run for name in ADDED for form, run in _added_product(name).items()},
    **dict.fromkeys(("linalg_cholesky_ex", "linalg_cholesky_ex.L"), _cholesky_ex),
    **dict.fromkeys(("linalg_inv_ex", "linalg_inv_ex.inverse"), _inv_ex),
    **dict.fromkeys(("linalg_solve_triangular", "linalg_solve_triangular.out"), _solve_triangular),
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
