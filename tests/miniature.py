"""The default benchmark in miniature, in one process, so that it can run on a CPU that is emulated.

`python tests/miniature.py FOLDER` tries every operator that `aebench.portable` replaces, trains and evaluates every
variant of params.yaml and some more, measures the baselines and draws the report, all on a few of the digits. It writes
the results to FOLDER, along with what each of torch's operators gave for what it was given: `trial.calls.json` for
those that were tried, `pipeline.calls.json` for all the rest.

`python tests/miniature.py FOLDER own` only tries those operators, and leaves torch's own kernels in their places.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from aebench import numerics  # noqa: E402

numerics.limit("portable")

import json  # noqa: E402
import zlib  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from aebench import config, portable  # noqa: E402
from aebench.data import datasets  # noqa: E402
from aebench.evaluation import baselines, document  # noqa: E402
from aebench.evaluation.evaluate import Evaluated, evaluate  # noqa: E402
from aebench.evaluation.history import read_history  # noqa: E402
from aebench.evaluation.metrics import families  # noqa: E402
from aebench.paths import Layout, write  # noqa: E402
from aebench.randomness import generator  # noqa: E402
from aebench.store import Store  # noqa: E402
from aebench.training.run import train_run  # noqa: E402
from aebench.training.settings import read_params  # noqa: E402
from aebench.training.trained_run import read_run  # noqa: E402

DATASET = "digits"
TRAIN, TEST = 260, 12
# Variants of the report: pictures of all would take as long as their training. They alone are evaluated in full: the
# ex-post density of the others shows no more, and neither does their bounds' gap, but for that of another likelihood.
REPORTED = ("vae", "cvae_concat")
CHANGED: dict[str, dict[str, Any]] = {
    "network": {"hidden": [48], "latent_dim": 5},
    "training": {"epochs": 2, "batch_size": 40},
    "evaluation": {"importance_samples": 70, "bound_gap_images": 50, "expost": {"images": 4, "importance_samples": 40}},
    "data": {"validation_fraction": 0.2},
}
# Settings that the default variants leave out, so that their operators are run as well.
MORE: dict[str, dict[str, Any]] = {
    "miniature_iwae": {"kind": "vae", "objective": "iwae", "samples": 3},
    "miniature_gaussian": {"kind": "vae", "likelihood": "gaussian"},
    "miniature_continuous": {"kind": "vae", "likelihood": "continuous_bernoulli", "beta_warmup_epochs": 2},
    "miniature_discretised": {"kind": "vae", "likelihood": "discretised_logistic"},
    "miniature_noisy": {"kind": "dae", "corruption": "gaussian", "corruption_rate": 0.2},
    "miniature_conv": {
        "kind": "vae",
        "network": {"architecture": "conv", "channels": [4, 8], "hidden": [16]},
        "training": {"optimizer": "adamw", "weight_decay": 0.1},
    },
    "cvae_concat": {"kind": "cvae", "conditioning": "concat"},
    "miniature_gated": {
        "kind": "cvae",
        "conditioning": "concat",
        "network": {"architecture": "gated_mlp", "hidden": [16]},
        "training": {
            "optimizer": "normalised_adam",
            "schedule": "cosine",
            "warmup_share": 0.2,
            "gradient_clip": 5.0,
        },
    },
}


# What these give, or find in their first argument, is whatever was in the memory before.
UNINITIALISED = {"empty.memory_format", "new_empty", "new_empty_strided"}
OVERWRITE = {"copy_", "normal_", "random_", "uniform_"}


class Operators(TorchDispatchMode):
    """What torch's operators were given and what they gave, by operator and by the number of the call, as hashes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.name().removeprefix("aten::")
        if name.startswith("profiler::"):
            return func(*args, **(kwargs or {}))
        if name == "pow.Tensor_Scalar" and args[1] == 0.5:
            name += " of 0.5"  # which is another operator: MKL's root
        given = _digest(args[1:] if name in OVERWRITE else args, kwargs)
        result = func(*args, **(kwargs or {}))
        self.calls[name].append((given, "" if name in UNINITIALISED else _digest(result)))
        return result


def _digest(*values: Any) -> str:
    """A checksum, since a hash that no one could forge takes a third of the time on a CPU that is emulated."""
    digest = 0
    for value in _flat(values):
        if isinstance(value, Tensor):
            digest = zlib.crc32(f"{value.dtype} {tuple(value.shape)}".encode(), digest)
            if value.numel() and not value.is_meta:
                digest = zlib.crc32(np.ascontiguousarray(value.numpy(force=True)), digest)
        elif not isinstance(value, torch.Generator):
            digest = zlib.crc32(repr(value).encode(), digest)
    return f"{digest:08x}"


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [part for item in sorted(value.items()) for part in item]
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def every_replaced_operator() -> None:
    """At sizes at which MKL's differ between CPUs; the pipeline calls few of their forms."""
    noise = generator("miniature")
    for dtype in (torch.float32, torch.float64):
        a, b, c = (torch.randn(3, *shape, generator=noise).to(dtype) for shape in ((70, 784), (784, 50), (70, 50)))
        positive = a[..., :70] + a[..., :70].mT + 50 * torch.eye(70, dtype=dtype)
        given: dict[str, tuple[Tensor, ...]] = {
            **dict.fromkeys(portable.ELEMENTWISE, (torch.rand(5000, generator=noise).to(dtype),)),
            **{"mm": (a[0], b[0]), "bmm": (a, b), "mv": (a[0], b[0, :, 0]), "dot": (a[0, 0], b[0, :, 0])},
            **{"addmm": (c[0], a[0], b[0]), "baddbmm": (c, a, b), "addmv": (c[0, :, 0], a[0], b[0, :, 0])},
            **dict.fromkeys(("linalg_cholesky_ex", "linalg_inv_ex"), (positive,)),
            "linalg_solve_triangular": (positive, c),
        }
        for name in portable.REPLACED:
            plain, _, form = name.partition(".")
            inputs = [value.clone() for value in given[plain.removesuffix("_")]]
            outputs = {form: torch.empty(0, dtype=dtype)} if form else {}
            if form in ("inverse", "L"):
                outputs["info"] = torch.empty(0, dtype=torch.int32)
            how = {"upper": False} if plain == "linalg_solve_triangular" else {}
            getattr(getattr(torch.ops.aten, plain), form or "default")(*inputs, **how, **outputs)


def params(folder: Path) -> config.Params:
    """params.yaml, smaller and with more variants."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    content |= {"datasets": [DATASET], "seeds": [0]}
    for block, changes in CHANGED.items():
        content[block] |= changes
    content["variants"] += MORE
    content["models"] |= MORE
    path = folder / "params.yaml"
    with path.open("w") as file:
        YAML().dump(content, file)
    return read_params(path)


def images(folder: Path) -> bytes:
    """A few of the digits, as the content of a data set's file."""
    from aebench.data.description import describe

    content = datasets.fetch(DATASET, folder / "raw", None, lambda _: None)
    arrays = datasets.read(content)
    few = {name: values[: TRAIN if name.startswith("train") else TEST] for name, values in arrays.items()}
    return datasets.write(few, describe(content))


def run(folder: Path) -> None:
    """Compute everything, and write it to `folder`."""
    layout, settings = Layout(folder), params(folder)
    write(layout.data(DATASET), images(folder))
    for variant in settings.variants:
        path = layout.run(DATASET, variant, 0)
        train_run(settings.run(variant), DATASET, 0, layout.data(DATASET), _silent).write(path)
        how = settings.evaluation
        if variant not in REPORTED:
            how = without_expost(how, gap="likelihood" in MORE.get(variant, {}))
        measure(settings, layout, variant, how, variant)
    optional = tuple(family.name for family in families() if family.optional)
    for variant, proposal, extra in (("vae", "refined", ()), ("cvae_concat", "amortised", optional)):
        how = without_expost(settings.evaluation).model_copy(update={"proposal": proposal, "extra": extra})
        measure(settings, layout, variant, how, f"{variant}_{proposal}")
    latents = settings.network.latent_dim
    work, _ = baselines.jobs(
        DATASET, "", "", settings.data, latents, settings.evaluation, settings.numerics, Store(folder / "store", 0)
    )
    results = {name: measured(layout.data(DATASET), _silent) for name, measured in work.items()}
    write(layout.baseline_values(DATASET), baselines.npz(results))
    about = datasets.describe(layout.data(DATASET))
    _json(layout.baseline(DATASET), baselines.document(DATASET, about, latents, results))
    report(settings.model_copy(update={"variants": REPORTED}), layout)


def without_expost(how: config.Evaluation, gap: bool = False) -> config.Evaluation:
    """Without an ex-post density, and maybe without bounds from both sides."""
    changes = {"expost": how.expost.model_copy(update={"images": 0})}
    return how.model_copy(update=changes if gap else {**changes, "bound_gap_images": 0})


def measure(settings: config.Params, layout: Layout, variant: str, how: config.Evaluation, name: str) -> None:
    """Evaluate a variant's run, and write what is found under `name`."""
    of_run, stored = settings.run(variant), read_run(layout.run(DATASET, variant, 0))
    mapped = name == "vae"  # takes long
    found = evaluate(stored, how, layout.data(DATASET), _silent, history=read_history(stored), mapped=mapped)
    assert isinstance(found, Evaluated), found
    write(layout.evaluation(DATASET, name, 0), found.npz())
    _json(layout.metrics(DATASET, name), document.document(DATASET, of_run, how, {0: found}))


def report(settings: config.Params, layout: Layout) -> None:
    """The stage of that name, on these results."""
    for name in ("constraints.txt", "src", "stages"):
        if (ROOT / name).exists():
            (layout.root / name).symlink_to(ROOT / name)
    sys.path.insert(0, str(ROOT / "stages"))
    import _stage

    _stage.LAYOUT, _stage.params = layout, lambda: settings
    import report as stage

    stage.report()


def _silent(*_: object) -> None:
    """What is told of the progress of jobs."""


def _json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, json.dumps(content, indent=1, sort_keys=True))


def main(folder: str, kernels: str = "portable") -> None:
    """Run it, and take down what the operators do."""
    # QEMU 7 reads past the end of what NumPy's fastest `argsort` sorts, and dies; the order is the same.
    np.argsort = partial(np.argsort, kind="stable")
    torch.manual_seed(0)  # a run that is read is built with weights that are thrown away, drawn from no seed
    if kernels == "portable":
        numerics.begin()
    for part in ["trial", "pipeline"] if kernels == "portable" else ["trial"]:
        with Operators() as operators:
            every_replaced_operator() if part == "trial" else run(Path(folder))
        _json(Path(folder) / f"{part}.calls.json", operators.calls)


if __name__ == "__main__":
    main(*sys.argv[1:])
