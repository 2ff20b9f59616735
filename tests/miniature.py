"""The default benchmark in miniature, in one process, so that it can run on a CPU that is emulated.

`python tests/miniature.py FOLDER [OPERATOR]` trains and evaluates every variant of params.yaml, measures the baselines
and draws the report, all on a few of the digits, and writes the results to FOLDER, along with `operators.json`: what
each of torch's operators gave for what it was given. With OPERATOR, torch's own kernel of that name stays in its place.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from aebench import numerics  # noqa: E402

numerics.limit("portable")

import hashlib  # noqa: E402
import json  # noqa: E402
from collections import Counter, defaultdict  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from aebench import config, portable, variants  # noqa: E402
from aebench.data import datasets  # noqa: E402
from aebench.evaluation import baselines, document  # noqa: E402
from aebench.evaluation.evaluate import Evaluated, evaluate  # noqa: E402
from aebench.paths import Layout, write  # noqa: E402
from aebench.store import Store  # noqa: E402
from aebench.training.checkpoints import read_run  # noqa: E402
from aebench.training.run import train_run  # noqa: E402

DATASET = "digits"
TRAIN, TEST = 260, 30
CHANGED: dict[str, dict[str, Any]] = {
    "network": {"hidden": [48], "latent_dim": 5},
    "training": {"epochs": 2, "batch_size": 40},
    "evaluation": {"importance_samples": 70, "expost": {"images": 8, "importance_samples": 40}},
    "data": {"validation_fraction": 0.2},
}
# Settings that the default variants leave out, so that their operators are run as well.
MORE: dict[str, dict[str, Any]] = {
    "iwae": {"kind": "vae", "objective": "iwae", "samples": 3},
    "gaussian": {"kind": "vae", "likelihood": "gaussian"},
    "continuous": {"kind": "vae", "likelihood": "continuous_bernoulli", "beta_warmup_epochs": 2},
    "noisy": {"kind": "dae", "corruption": "gaussian", "corruption_rate": 0.2},
}


class Operators(TorchDispatchMode):
    """What torch's operators were given and what they gave, each call by a hash."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, dict[str, str]] = defaultdict(dict)
        self._count: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = _name(func)
        given = _digest(args, kwargs)
        result = func(*args, **(kwargs or {}))
        self._count[name] += 1
        # By the number of the call too: what an operator draws depends on what was drawn before.
        self.calls[name][f"{self._count[name]} {given}"] = _digest(result)
        return result


def _name(func: Any) -> str:
    name: str = func.name().removeprefix("aten::")
    return name


def _digest(*values: Any) -> str:
    digest = hashlib.sha256()
    for value in _flat(values):
        if isinstance(value, Tensor):
            content = b"" if value.is_meta else value.numpy(force=True).tobytes()
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + content)
        elif not isinstance(value, torch.Generator):
            digest.update(repr(value).encode())
    return digest.hexdigest()[:12]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [part for item in sorted(value.items()) for part in item]
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


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
    return config.read(path, kinds=variants.kinds(), datasets=datasets.facts(()))


def images(folder: Path) -> bytes:
    """A few of the digits, as the content of a data set's file."""
    from aebench.data.description import describe

    content = datasets.fetch(DATASET, folder / "raw", None, lambda _: None)
    arrays = datasets.read(content)
    few = {name: values[: TRAIN if name.startswith("train") else TEST] for name, values in arrays.items()}
    return datasets.write(few, describe(content))


def run(folder: Path) -> None:
    """Compute everything, and write it to `folder`."""
    layout, said = Layout(folder), lambda *_: None
    settings = params(folder)
    write(layout.data(DATASET), images(folder))
    data = layout.data(DATASET)
    for variant in settings.variants:
        of_run, path = settings.run(variant), layout.run(DATASET, variant, 0)
        train_run(of_run, DATASET, 0, data, said).write(path)
        for proposal in ("amortised", "refined") if variant == "vae" else ("amortised",):
            measured = settings.evaluation.model_copy(update={"proposal": proposal})
            stored = read_run(path)
            found = evaluate(stored, measured, DATASET, of_run.data.validation_fraction, 0, data, said, mapped=True)
            assert isinstance(found, Evaluated), found
            name = variant if proposal == "amortised" else f"{variant}_{proposal}"
            write(layout.evaluation(DATASET, name, 0), found.npz())
            _json(layout.metrics(DATASET, name), document.document(DATASET, of_run, measured, {0: found}))
    fraction, latents = settings.data, settings.network.latent_dim
    work, _ = baselines.jobs(
        DATASET, "", fraction, latents, settings.evaluation, "portable", Store(folder / "store", 0)
    )
    results = {name: measure(data, said) for name, measure in work.items()}
    write(layout.baseline_values(DATASET), baselines.npz(results))
    _json(
        layout.baseline(DATASET), baselines.document(DATASET, datasets.describe(data), latents, results)
    )


def _json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, json.dumps(content, indent=1, sort_keys=True))


def main(folder: str, without: str = "") -> None:
    """Run it under the eye of `Operators`."""
    # QEMU 7 reads past the end of what NumPy's fastest `argsort` sorts, and dies; the order is the same.
    np.argsort = partial(np.argsort, kind="stable")
    portable.REPLACED.pop(without, None)
    numerics.begin()
    with Operators() as operators:
        run(Path(folder))
    _json(Path(folder) / "operators.json", operators.calls)


if __name__ == "__main__":
    main(*sys.argv[1:])
