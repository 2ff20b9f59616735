"""torch's operators in NumPy, against torch's own kernels; and that no operator of the pipeline escapes them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from test_variants import SETTINGS, made
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from aebench.evaluation.marginal import Marginal
from aebench.evaluation.proposals import importance_budget, propose
from aebench.models.labels import sample_prior
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.portable import REPLACED
from aebench.randomness import Streams, drawing_from, generator

# Operators whose bits were found to be the same under emulation of both makers' CPUs: `test_an_emulated_cpu_…` shows
# it anew each time, for every one of them, between this CPU and one of the other maker.
NEUTRAL = {
    # They move values, compare them, or compute with whole numbers.
    *("_efficientzerotensor", "_is_all_true", "_linalg_check_errors", "_local_scalar_dense", "_to_copy"),
    *("_unsafe_view", "alias", "all", "all.dim", "amax", "arange", "argmax", "as_strided", "bincount"),
    *(
        "_new_zeros_with_same_feature_meta",
        "bitwise_and.Tensor",
        "bitwise_and_.Tensor",
        "bitwise_not",
        "cat",
        "clamp",
        "clone",
        "copy_",
        "detach",
        "diag_embed",
        "diagonal",
        "embedding",
    ),
    *(
        "empty.memory_format",
        "eq.Scalar",
        "eq.Tensor",
        "expand",
        "eye",
        "full",
        "full_like",
        "gather",
        "ge.Scalar",
        "ge.Tensor",
    ),
    *(
        "gt.Scalar",
        "gt.Tensor",
        "index.Tensor",
        "index_fill.int_Scalar",
        "index_copy",
        "index_put",
        "le.Scalar",
        "nan_to_num",
        "index_select",
        "lift_fresh",
        "lt.Scalar",
        "max",
        "min",
    ),
    *("logical_and_", "ne.Scalar", "new_empty", "new_empty_strided", "new_zeros", "nonzero", "ones_like", "permute"),
    *("repeat", "repeat_interleave.Tensor", "scalar_tensor", "select.int", "slice.Tensor", "sort", "split.Tensor"),
    *("squeeze.dim", "stack", "t", "threshold_backward", "to.dtype", "to.dtype_layout"),
    *("transpose.int", "unbind.int", "unsqueeze", "view", "where.self", "zeros", "zeros_like"),
    # Element by element, each result rounded as IEEE 754 says.
    *("abs", "add.Scalar", "add.Tensor", "add_.Tensor", "_foreach_add_.Scalar", "ceil"),
    *("div.Scalar", "div.Tensor", "div_.Tensor", "mul.Scalar", "mul.Tensor", "mul_.Tensor", "neg", "reciprocal"),
    *("relu_", "rsub.Scalar", "sgn", "sub.Tensor", "sub_.Tensor", "prims::add", "prims::mul"),
    # torch's own code, one for all CPUs with AVX2: fused products and sums, series for transcendental functions, draws.
    *(
        "_fused_adam_",
        "_fused_adamw_",
        "addcdiv_",
        "addcmul_",
        "binary_cross_entropy_with_logits",
        "cumsum",
        "expm1",
        "lerp.Tensor",
        "logaddexp",
        "std.correction",
    ),
    *("lerp_.Scalar", "linspace", "log1p", "mean", "mean.dim", "pow.Tensor_Scalar", "sigmoid", "sigmoid_"),
    *("sigmoid_backward", "sum", "sum.dim_IntList", "embedding_dense_backward"),
    *(
        "bernoulli",
        "normal.Tensor_Tensor",
        "normal_",
        "rand",
        "rand.generator",
        "rand_like",
        "randn",
        "randn.generator",
    ),
    *("randn_like", "random_"),
    *("randperm.generator", "uniform_"),
    # oneDNN's, which keeps to the limit that it is given.
    *("convolution", "convolution_backward"),
    # The same, but where they take an exponential or a logarithm by the way, it is the replaced one.
    *("_log_softmax", "_softmax", "logsumexp"),
}
# What models call that the miniature has not: they move values and compare them, but for the last, which is torch's own
# AVX2 code like the logarithm of the softmax whose derivative it is.
OF_OTHER_MODELS = {
    *("clamp_min", "constant_pad_nd", "diagonal_backward", "empty_like", "fill_.Scalar", "flip", "relu"),
    "split_with_sizes",
    "_log_softmax_backward_data",
}
MAKERS = ("Haswell-noTSX", "EPYC-Milan")
OTHER = MAKERS["AuthenticAMD" not in Path("/proc/cpuinfo").read_text()]  # not this CPU's maker
QEMU = shutil.which("qemu-x86_64")
COMPILER = shutil.which("cc")


def drawn(*shape: int, key: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator("portable", key), dtype=torch.float64).to(dtype)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, equal_nan=True)


def own(name: str) -> Any:
    """torch's kernel: nothing is replaced in this process."""
    base, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")


SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan, 1e-30, 88.0, -88.0])


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tan", "asin", "acos", "atan"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_element_by_element(name: str, dtype: torch.dtype) -> None:
    values = torch.cat([drawn(50, dtype=dtype), drawn(50, dtype=dtype).abs(), SPECIAL.to(dtype)])
    for x in (values, values.view(10, 11).T, values[::3], values[0], values[:0], values[:4].expand(3, 4)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a NaN is an answer
            found = REPLACED[name](x)
            same(found, own(name)(x))
            out = torch.full((2,), torch.nan, dtype=dtype)
            assert REPLACED[f"{name}.out"](x, out=out) is out
            same(out, found)
            changed = x.clone()
            assert REPLACED[f"{name}_"](changed) is changed
            same(changed, found)
    assert REPLACED[name](torch.tensor([1, 0])).dtype == torch.float32
    same(REPLACED[name](torch.complex(values, values)[:100]), own(name)(torch.complex(values, values)[:100]))


PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "mm": ((3, 5), (5, 4)),
    "bmm": ((2, 3, 5), (2, 5, 4)),
    "mv": ((3, 5), (5,)),
    "dot": ((5,), (5,)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products(name: str, dtype: torch.dtype) -> None:
    a, b = (drawn(*shape, key=key, dtype=dtype) for key, shape in enumerate(PRODUCTS[name]))
    cases = [(a, b), (a.requires_grad_(), b)]
    if name != "dot":
        cases += [(a.mT.contiguous().mT, b), (a[..., :0, :], b), (a[..., :0], b[..., :0, :] if b.dim() > 1 else b[:0])]
        cases += [(a[..., :1, :].expand(a.shape), b)]
    for left, right in cases:
        found = REPLACED[name](left, right)
        same(found, own(name)(left.detach(), right))
        out = torch.full((1,), torch.nan, dtype=dtype)
        assert REPLACED[f"{name}.out"](left, right, out=out) is out
        same(out, found)


@pytest.mark.parametrize(("name", "product"), [("addmm", "mm"), ("baddbmm", "bmm"), ("addmv", "mv")])
@pytest.mark.parametrize("scales", [{}, {"beta": 0.0}, {"beta": 2.0, "alpha": 0.5}, {"beta": 0.5}, {"alpha": 0.0}])
def test_added_products(name: str, product: str, scales: Mapping[str, float]) -> None:
    a, b = (drawn(*shape, key=key) for key, shape in enumerate(PRODUCTS[product]))
    whole = drawn(*own(product)(a, b).shape, key=2)
    for c in (whole, whole[..., :1, :] if whole.dim() > 1 else whole[:1], whole[..., -1:]):
        found = REPLACED[name](c, a, b, **scales)
        same(found, own(name)(c, a, b, **scales))
        out = torch.empty(0, dtype=a.dtype)
        assert REPLACED[f"{name}.out"](c, a, b, **scales, out=out) is out
        same(out, found)
    changed = whole.clone()
    assert REPLACED[f"{name}_"](changed, a, b, **scales) is changed
    same(changed, own(name)(whole, a, b, **scales))
    if scales.get("beta") == 0:
        assert REPLACED[name](torch.full_like(whole, torch.nan), a, b, **scales).isfinite().all()


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        *(("mm", [(2, 3), (4, 2)]), ("mm", [(2, 3), (3,)]), ("mm", [(1, 2, 3), (1, 3, 2)])),
        *(("bmm", [(1, 2, 3), (2, 3, 2)]), ("bmm", [(2, 3), (3, 2)]), ("mv", [(2, 3), (2,)]), ("mv", [(2, 3), (3, 1)])),
        *(("dot", [(3,), (2,)]), ("dot", [(2, 3), (3,)]), ("addmm", [(3, 3), (2, 3), (3, 2)])),
        *(("addmv", [(3,), (2, 3), (3,)]), ("baddbmm", [(2, 2), (1, 2, 3), (2, 3, 2)])),
    ],
)
def test_what_cannot_be_multiplied_is_an_error_as_in_torch(name: str, shapes: Sequence[tuple[int, ...]]) -> None:
    factors = [torch.ones(shape) for shape in shapes]
    for function in (own(name), REPLACED[name]):
        with pytest.raises(RuntimeError):
            function(*factors)


@pytest.mark.parametrize("name", ["mm", "addmm"])
def test_two_kinds_of_numbers_are_not_multiplied(name: str) -> None:
    ones = [torch.ones(2, 2) for _ in range(2 + name.startswith("add"))]
    for mixed in range(len(ones)):
        factors = [x.double() if place == mixed else x for place, x in enumerate(ones)]
        for function in (own(name), REPLACED[name]):
            with pytest.raises(RuntimeError):
                function(*factors)


def positive() -> Tensor:
    a = drawn(4, 6, 6)
    return a @ a.mT + torch.eye(6, dtype=a.dtype)


@pytest.mark.parametrize(
    ("name", "into", "how"),
    [
        *(("linalg_cholesky_ex", "L", {"upper": False}), ("linalg_cholesky_ex", "L", {"upper": True})),
        ("linalg_inv_ex", "inverse", {}),
    ],
)
def test_matrices_are_decomposed(name: str, into: str, how: Mapping[str, bool]) -> None:
    batch = positive()
    for a in (batch, batch[0], batch.view(2, 2, 6, 6), batch[:0]):
        found, info = REPLACED[name](a, **how)
        same(found, own(name)(a, **how)[0])
        assert info.shape == a.shape[:-2]
        assert info.dtype == torch.int32
        assert not info.any()
        outputs = {into: torch.empty(0, dtype=a.dtype), "info": torch.empty(0, dtype=torch.int32)}
        REPLACED[f"{name}.{into}"](a, **how, **outputs)
        same(outputs[into], found)
        assert outputs["info"].equal(info)


@pytest.mark.parametrize("name", ["linalg_cholesky_ex", "linalg_inv_ex"])
def test_matrices_that_cannot_be_decomposed_are_told_from_those_that_can(name: str) -> None:
    batch = positive()
    batch[2] = 0
    found, info = REPLACED[name](batch)
    expected, theirs = own(name)(batch)
    assert (info != 0).tolist() == (theirs != 0).tolist() == [False, False, True, False]
    same(found[info == 0], expected[info == 0])
    assert found[2].isnan().all()
    with pytest.raises(torch.linalg.LinAlgError):
        REPLACED[name](batch, check_errors=True)
    batch[2] = torch.nan
    assert (REPLACED[name](batch)[1] != 0).tolist() == (own(name)(batch)[1] != 0).tolist()


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("unitriangular", [False, True])
def test_triangles_are_solved(upper: bool, left: bool, unitriangular: bool) -> None:
    """What lies on the other side of the diagonal does not count."""
    a, b = drawn(4, 5, 5) + 4 * torch.eye(5, dtype=torch.float64), drawn(4, 5, 5, key=1)[..., :3]
    b = b if left else b.mT
    how = {"upper": upper, "left": left, "unitriangular": unitriangular}
    for triangles, sides in ((a, b), (a[0], b), (a, b[0]), (a[:0], b[:0])):
        found = REPLACED["linalg_solve_triangular"](triangles, sides, **how)
        same(found, torch.linalg.solve_triangular(triangles, sides, **how))
        out = torch.empty(0, dtype=a.dtype)
        assert REPLACED["linalg_solve_triangular.out"](triangles, sides, **how, out=out) is out
        same(out, found)


def test_triangles_without_a_solution_leave_the_others_alone() -> None:
    a, b = torch.eye(3).repeat(2, 1, 1), torch.ones(2, 3, 1)
    a[0, 1, 1] = 0
    found = REPLACED["linalg_solve_triangular"](a, b, upper=True)
    assert not found[0].isfinite().all()
    assert found[1].equal(b[1])


REPLACING = """
import sys
sys.path.insert(0, "src")
from aebench import numerics
numerics.limit("portable")
numerics.begin()
import torch
from torch.autograd import gradcheck
from torch.func import jacfwd, jacrev, vmap
assert numerics.begin() is None  # a second time
rows, weight, bias = (torch.rand(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 4), (2, 4), (2,)))

def network(x, w, b):
    return (torch.nn.functional.linear(x, w, b).exp() + 1).log().sqrt()

assert gradcheck(network, (rows, weight, bias))
assert gradcheck(lambda a: torch.linalg.inv(a @ a.mT + torch.eye(3)), (rows,))
assert gradcheck(lambda a: torch.linalg.cholesky(a @ a.mT + torch.eye(3)), (rows,))
assert gradcheck(lambda a, b: torch.linalg.solve_triangular(a @ a.mT + torch.eye(3), b, upper=True), (rows, rows))
one = lambda x: network(x[None], weight, bias)[0]
forward, reverse = vmap(jacfwd(one))(rows.detach()), vmap(jacrev(one))(rows.detach())
assert torch.allclose(forward, reverse) and forward.shape == (3, 2, 4)
import numpy
values = torch.rand(10001)
for name in ("exp", "log", "sqrt"):
    assert (getattr(torch, name)(values).numpy() == getattr(numpy, name)(values.numpy())).all(), name
"""


def test_what_is_replaced_has_derivatives_and_is_torch_s_own_no_more() -> None:
    strict = ("-W", "error::UserWarning", "-W", "error::RuntimeWarning")
    done = subprocess.run([sys.executable, *strict, "-c", REPLACING], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def unknown(calls: Mapping[str, object]) -> set[str]:
    """The operators that are neither replaced nor known to be the same on every CPU."""
    return set(calls) - set(REPLACED) - NEUTRAL


class Called(TorchDispatchMode):
    """The names of torch's operators that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, list[list[str]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.name().removeprefix("aten::")] = []
        return func(*args, **(kwargs or {}))


def test_no_operator_of_any_model_escapes() -> None:
    """A step of training, a reconstruction and an estimate of every kind, part and network."""
    found: set[str] = set()
    x, y = (drawn(4, 64, dtype=torch.float32) > 0).float(), torch.arange(4)
    for name in SETTINGS:
        model = made(name)
        with Called() as called:
            model.loss(x, y, model.noise(torch.arange(4), Streams(0)), epoch=1)["loss"].mean().backward()
            model.requires_grad_(False).reconstruct(x)
            if isinstance(model, LatentVariableModel):
                marginal, noise = Marginal(model), generator("estimate")
                proposal = propose("laplace", marginal, x[:1], seed=0).marginal
                budget = importance_budget("laplace", 40, marginal.classes)
                marginal.estimate(x[:1], budget, noise, proposal=proposal)
                with drawing_from(noise):
                    sample_prior(model, 2, y)
        found |= unknown(called.names)
    assert found == OF_OTHER_MODELS


class Miniature:
    """What `miniature.py` wrote to a folder."""

    def __init__(self, folder: Path) -> None:
        results = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".calls.json"))
        named = {path.relative_to(folder).as_posix(): path for path in results}
        self.files = {
            name: path.read_bytes() for name, path in named.items() if not name.startswith(("src/", "stages/"))
        }
        of_pipeline = folder / "pipeline.calls.json"
        self.trial: dict[str, list[list[str]]] = json.loads((folder / "trial.calls.json").read_text())
        self.calls: dict[str, list[list[str]]] = json.loads(of_pipeline.read_text()) if of_pipeline.exists() else {}


def miniature(folder: Path, *arguments: str, cpu: str | None = None, preloaded: Path | None = None) -> Miniature:
    """Run it, in a folder of its own, on this CPU or an emulated one; with functions from a library of its own."""
    command = [sys.executable, "tests/miniature.py", str(folder), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"LD_PRELOAD": str(preloaded)} if preloaded else {}
    if cpu:
        # The interpreter itself, since what it starts would not be emulated, and with it the environment's packages.
        packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
        command = [str(QEMU), "-cpu", cpu, os.path.realpath(sys.executable), *command[1:]]
        environment["PYTHONPATH"] = packages
    for _ in range(3):  # the emulator itself, of several threads, dies of a signal now and then
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=7200)
        if not (cpu and done.returncode == -signal.SIGSEGV):
            break
    assert done.returncode == 0, done.stderr[-3000:]
    return Miniature(folder)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return miniature(tmp_path_factory.mktemp("miniature") / "here")


def test_no_operator_of_the_pipeline_escapes(here: Miniature) -> None:
    assert not unknown(here.calls)
    assert unknown({"mm": [], "erf": [], "sum": []}) == {"erf"}
    used = {"mm", "addmm", "bmm", "mv", "exp", "log", "log_", "sqrt", "linalg_cholesky_ex", "linalg_inv_ex"}
    assert used <= set(here.calls), "the miniature no longer does what the benchmark does"
    assert sorted(NEUTRAL - set(here.calls)) == [], "nothing shows these to be neutral"


def test_every_variant_and_every_output_is_in_miniature(here: Miniature) -> None:
    from aebench.yaml import read

    params = read(ROOT / "params.yaml")
    assert isinstance(params, dict)
    for variant in params["variants"]:
        assert f"runs/digits/{variant}/seed-0/model.safetensors" in here.files
        assert f"reports/metrics/digits/{variant}.json" in here.files
    assert {"reports/index.html", "reports/overview.png", "reports/comparison.md"} <= here.files.keys()


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Miniature]]:
    """What an emulated CPU gives, with its arguments; as many at a time as there are cores, the long one first."""
    folder = tmp_path_factory.mktemp("emulated")
    wanted = [(OTHER,), *((cpu, "own") for cpu in MAKERS)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        runs = {
            (cpu, *how): executor.submit(miniature, folder / "-".join((cpu, *how)), *how, cpu=cpu)
            for cpu, *how in wanted
        }
        yield lambda *which: runs[which].result()


emulator = pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64, Debian's package qemu-user")


@pytest.mark.slow
@emulator
def test_an_emulated_cpu_gives_the_same_bits(here: Miniature, emulated: Callable[..., Miniature]) -> None:
    """Every file, and every operator; this CPU itself stands for its maker."""
    there = emulated(OTHER)
    assert set(here.trial) >= set(REPLACED)
    for ours, theirs in ((here.trial, there.trial), (here.calls, there.calls)):
        assert not differing(ours, theirs)
        assert not not_compared(ours, theirs)
    assert here.files.keys() == there.files.keys()
    assert not [name for name, content in here.files.items() if content != there.files[name]]


@pytest.mark.slow
@emulator
def test_each_replaced_operator_would_be_found_if_it_were_not(emulated: Callable[..., Miniature]) -> None:
    """torch's own kernels give other bits on an Intel CPU than on an AMD one."""
    intel, amd = (emulated(cpu, "own") for cpu in MAKERS)
    assert differing(intel.trial, amd.trial) == set(REPLACED)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_five_functions_of_the_c_library_decide_results(here: Miniature, tmp_path: Path) -> None:
    """All others may give another last bit: only operators that no result has called give something else."""
    library = tmp_path / "nudged.so"
    flags = ("-O2", "-fno-builtin", "-shared", "-fPIC", "-ldl")
    subprocess.run([str(COMPILER), "tests/nudged_libm.c", "-o", str(library), *flags], cwd=ROOT, check=True)
    there = miniature(tmp_path / "nudged", preloaded=library)
    of_the_library = {f"{name}{form}" for name in ("tan", "asin", "acos", "atan") for form in ("", "_", ".out")}
    assert differing(here.trial, there.trial) == of_the_library
    assert not differing(here.calls, there.calls)
    assert not not_compared(here.calls, there.calls)
    assert here.files.keys() == there.files.keys()
    assert not [name for name, content in here.files.items() if content != there.files[name]]


Calls = Mapping[str, Sequence[Sequence[str]]]


def differing(here: Calls, there: Calls) -> set[str]:
    """The operators that gave something else for the same."""
    return {name for name in here.keys() & there.keys() for gave in both(here[name], there[name]) if len(set(gave)) > 1}


def not_compared(here: Calls, there: Calls) -> set[str]:
    """Those which were never given the same, or not called as often."""
    names = here.keys() | there.keys()
    as_often = {name for name in names if len(here.get(name, ())) == len(there.get(name, ()))}
    return names - {name for name in as_often if both(here[name], there[name])}


def both(here: Sequence[Sequence[str]], there: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """What an operator gave here and there where it was given the same."""
    return [(a[1], b[1]) for a, b in zip(here, there, strict=False) if a[0] == b[0]]


def test_a_difference_is_found() -> None:
    calls = {"mm": [["a", "b"], ["c", "d"]], "add": [["a", "b"]]}
    assert not differing(calls, calls)
    assert not not_compared(calls, calls)
    assert differing(calls, {**calls, "mm": [["a", "b"], ["c", "e"]]}) == {"mm"}
    assert not_compared(calls, {**calls, "mm": [["a", "b"]]}) == {"mm"}
    assert not_compared(calls, {**calls, "mm": [["x", "b"], ["y", "d"]]}) == {"mm"}
    assert not_compared(calls, {"mm": calls["mm"]}) == {"add"}
