"""A stage's fingerprint changes with the code that decides its results, and with nothing else."""

import ast
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from checkout import Checkout, working_tree
from conftest import RESULTS, ROOT

from aebench import fingerprint as module
from aebench.errors import UserError
from aebench.fingerprint import closure, code_hash, fingerprint, fingerprints, key, source_files
from aebench.paths import Layout

KINDS = ("ae", "cvae", "dae", "vae")
TRAIN = {f"train/{kind}" for kind in KINDS}
EVALUATE = {f"evaluate/{kind}" for kind in KINDS}
OTHERS = {"baseline", "report"}  # which use the statistics and the protocol of the evaluations
ALL = TRAIN | EVALUATE | OTHERS | {"fetch"}


def named(
    kind: str, architecture: str = "mlp", optimizer: str = "adam", likelihood: str = "bernoulli"
) -> tuple[str, ...]:
    """The modules that params.yaml names for a variant."""
    names = [f"variants.{kind}", f"models.networks.{architecture}", f"training.optimizers.{optimizer}"]
    names += ["training.schedules.constant", "training.stopping.patience"]
    if kind in ("vae", "cvae"):
        names.append(f"models.likelihoods.{likelihood}")
    if kind == "vae":
        names += ["models.priors.standard_normal", "models.posteriors.diagonal", "models.objectives.elbo"]
    return tuple(f"aebench.{name}" for name in names)


# One of them has a network of its own.
NAMED = {kind: named(kind, "conv" if kind == "dae" else "mlp") for kind in KINDS}


@pytest.fixture
def project(tmp_path: Path) -> Layout:
    """A copy of the code."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return Layout(tmp_path)


def found(project: Layout) -> dict[str, str]:
    return {"/".join(stage): value for stage, value in fingerprints(project, NAMED).items()}


def changed(project: Layout, name: str, old: str, new: str) -> set[str]:
    """The stages whose fingerprint changes with this edit of a file of the package, or of a stage."""
    before = found(project)
    path = project.root / name if name.startswith("stages/") else project.source / "aebench" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = found(project)
    path.write_text(text)
    return {stage for stage in before if before[stage] != after[stage]}


def test_every_stage_and_variant_has_its_own() -> None:
    values = found(Layout(ROOT))
    assert set(values) == ALL
    assert len(set(values.values())) == len(ALL)
    assert fingerprint(Layout(ROOT), "train", *named("vae")) == values["train/vae"]
    assert all(len(bytes.fromhex(value)) == 32 for value in values.values())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("models/autoencoder.py", '"""What a loss takes at random', '"""What a loss draws'),
        ("models/generative.py", '    """log p(y), `[C]`; looked at only where a label enters."""\n', ""),
        ("training/train.py", '"""One training loop', '"""A training loop'),
        ("training/train.py", "    return progress.end()", "    # done\n\n    return (progress.end())"),
        ("errors.py", '"""A run cannot be trained or its files cannot be used."""', "pass"),
        ("evaluation/metrics/codes.py", '"""How well a simple classifier', '"""How well a classifier'),
        ("evaluation/metrics/expost.py", '    """Figures in nats, those of health, and σ.', '    """What is in nats.'),
        ("training/cell.py", "from aebench.execution.progress import Report", "from aebench.reporting import pairs"),
        ("__init__.py", "from aebench.training.trained_run import read_run", "from aebench.tracking import sync"),
        ("tracking/sync.py", "import re", "import re as re"),
        ("stages/train.py", '"""Train every seed', '"""Train each seed'),
        ("stages/track.py", '"watch")', '"watch", "never")'),
    ],
)
def test_words_layout_and_code_that_no_result_needs_do_not_count(
    project: Layout, name: str, old: str, new: str
) -> None:
    assert changed(project, name, old, new) == set()


def test_new_variants_and_what_editors_leave_do_not_count(project: Layout) -> None:
    before, variants = found(project), project.source / "aebench" / "variants"
    everything = code_hash(source_files(project.source), project.source)
    (variants / ".#vae.py").symlink_to("someone@somewhere.1234")
    (variants / ".ipynb_checkpoints").mkdir()
    for name in ("vae.py~", ".vae.py.swp", "#vae.py#", ".DS_Store", "._vae.py", ".ipynb_checkpoints/vae.py"):
        (variants / name).write_bytes(b"\x00 not Python")
    (project.source / "aebench" / "reporting" / ".#page.html.jinja").symlink_to("someone@somewhere.1234")
    (project.source / "aebench" / "reporting" / "page.html.jinja~").write_text("older")
    assert found(project) == before
    assert code_hash(source_files(project.source), project.source) == everything
    shutil.copy(variants / "vae.py", variants / "mine.py")
    assert found(project) == before
    assert code_hash(source_files(project.source), project.source) != everything
    # The new one's own code counts for it alone.
    assert fingerprint(project, "train", *named("mine")) not in before.values()


def test_a_new_metric_counts_for_what_measures_and_shows_it(project: Layout) -> None:
    before, folder = found(project), project.source / "aebench" / "evaluation" / "metrics"
    (folder / ".#codes.py").symlink_to("someone@somewhere.1234")
    (folder / "codes.py~").write_bytes(b"\x00 not Python")
    assert found(project) == before
    (folder / "mine.py").write_text("METRICS = ()\n")
    after = found(project)
    assert {stage for stage in before if before[stage] != after[stage]} == EVALUATE | {"report"}


@pytest.mark.parametrize(
    ("name", "old", "new", "stages"),
    [
        ("evaluation/estimators.py", "bound(self.log_weights)", "bound(-self.log_weights)", EVALUATE | {"report"}),
        ("evaluation/likelihoods.py", "import torch", "import torch as torch", EVALUATE | {"report"}),
        ("evaluation/metrics/codes.py", "scale=100", "scale=1", EVALUATE | {"report"}),
        ("evaluation/metrics/active_units.py", "> ACTIVE", ">= ACTIVE", EVALUATE | {"report"}),
        ("variants/vae.py", "self.encoder(x)", "self.encoder(-x)", {"train/vae", "evaluate/vae"}),
        ("models/posteriors/diagonal.py", "2 * latent_dim", "3 * latent_dim", {"train/vae", "evaluate/vae"}),
        ("models/objectives/iwae.py", "softmax(0)", "softmax(1)", set()),
        ("variants/__init__.py", "model.eval()", "model", ALL),
        ("training/train.py", "epoch=epoch", "epoch=None", TRAIN),
        ("training/stacked.py", "import torch", "import torch as torch", TRAIN),
        ("training/optimizers/adamw.py", "Field(gt=0, le=1e9)", "Field(ge=0)", set()),
        ("training/descent.py", "number + 1", "number", TRAIN),
        ("training/schedules/constant.py", '["constant"]', '["constant", "still"]', TRAIN | EVALUATE),
        ("training/schedules/cosine.py", "math.pi", "math.tau", set()),
        ("training/stopping/patience.py", ">= self.patience", "> self.patience", TRAIN | EVALUATE),
        ("training/optimizers/adam.py", "beta1=0.9", "beta1=0.8", TRAIN | EVALUATE),
        ("models/networks/mlp.py", "nn.ReLU(inplace=True)", "nn.Tanh()", TRAIN | EVALUATE),
        ("models/networks/conv.py", "nn.ReLU(inplace=True)", "nn.Tanh()", {"train/dae", "evaluate/dae"}),
        ("models/networks/__init__.py", "** -0.5", "** -0.6", ALL),
        (
            "models/likelihoods/bernoulli.py",
            "range(6)",
            "range(5)",
            {"train/vae", "train/cvae"} | {"evaluate/vae", "evaluate/cvae"},
        ),
        ("models/likelihoods/discretised_logistic.py", "0.5 + a", "0.4 + a", set()),
        ("models/likelihoods/gaussian.py", "-0.5 * error", "0.5 * error", EVALUATE | {"report"}),
        ("models/likelihoods/__init__.py", "persistent=False", "persistent=True", ALL),
        ("evaluation/probes.py", "NEIGHBOURS = 5", "NEIGHBOURS = 6", EVALUATE | OTHERS),
        ("data/datasets.py", "div_(255)", "div_(256)", ALL),
        ("numerics.py", "set_flush_denormal(True)", "set_flush_denormal(False)", ALL),
        ("randomness.py", 'digest[:8], "big"', 'digest[:8], "little"', ALL),
        ("execution/subprocess_worker.py", "import sys", "import sys as sys", TRAIN | EVALUATE | {"baseline"}),
        ("reporting/figures.py", "#0072B2", "#0072B3", {"report"}),
        ("reporting/page.html.jinja", "<p>", "<p >", {"report"}),
        ("reporting/page.js.jinja", ";", "; ", {"report"}),
        ("stages/train.py", "warning: ", "note: ", TRAIN),
        ("stages/_work.py", "1_000_000", "1_000_001", TRAIN | EVALUATE | {"baseline"}),
        ("stages/_stage.py", "sys.exit(130)", "sys.exit(131)", ALL),
    ],
)
def test_code_counts_for_the_stages_that_run_it(
    project: Layout, name: str, old: str, new: str, stages: set[str]
) -> None:
    assert changed(project, name, old, new) == stages


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("variants/vae.py", "from .extra import WIDTH"),
        ("variants/vae.py", "from . import extra"),
        ("variants/vae.py", "import aebench.variants.extra"),
        ("variants/vae.py", "from aebench.variants import extra as other"),
        ("variants/vae.py", "def late():\n    def later():\n        from aebench.variants.extra import WIDTH"),
        ("variants/vae.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from aebench.variants import extra"),
        ("variants/vae.py", "COMMAND = ['python', '-m', 'aebench.variants.extra']"),
        ("training/run.py", "from ..variants.extra import WIDTH"),
        ("training/run.py", "from ..variants import extra"),
        ("variants/__init__.py", "from .extra import WIDTH"),
        ("variants/__init__.py", "from . import extra"),
        ("stages/train.py", "import extra"),
        ("stages/_work.py", "def late(): import extra"),
        ("variants/vae.py", "from aebench import shortcut"),
        ("variants/vae.py", "import aebench"),
    ],
)
def test_what_an_import_names_counts_wherever_it_stands(project: Layout, name: str, line: str) -> None:
    folder = project.stages if name.startswith("stages/") else project.source / "aebench" / "variants"
    package = project.source / "aebench" / "__init__.py"
    package.write_text(f"{package.read_text()}\nfrom aebench.variants.extra import WIDTH as shortcut\n")
    (folder / "extra.py").write_text("WIDTH = 1\n")
    path = project.root / name if name.startswith("stages/") else project.source / "aebench" / name
    path.write_text(f"{path.read_text()}\n{line}\n")
    before = fingerprint(project, "train", *named("vae"))
    (folder / "extra.py").write_text("WIDTH = 2\n")
    assert fingerprint(project, "train", *named("vae")) != before


def test_it_is_the_same_in_every_version_of_python(project: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later versions give functions and classes a list of type parameters, empty but where the code has some."""
    before = found(project)
    parse = ast.parse

    def later(content: bytes) -> ast.Module:
        tree = parse(content)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                node._fields = (*node._fields, "type_params")
                node.type_params = []  # type: ignore[attr-defined]
        return tree

    monkeypatch.setattr(module.ast, "parse", later)
    module._parsed.cache_clear()
    assert found(project) == before
    monkeypatch.undo()
    module._parsed.cache_clear()


@pytest.mark.parametrize(
    ("content", "line"), [("x = 1\ndef f(:\n", 2), ('"""never closed', 1), ("\0", 1), ("x = 1\n  y = 2\n", 2)]
)
def test_a_file_that_is_not_python_is_one_line(project: Layout, content: str, line: int) -> None:
    path = project.source / "aebench" / "variants" / "vae.py"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{path}, line {line}: not valid Python: .+") as caught:
        found(project)
    assert "\n" not in str(caught.value)


def test_an_import_that_leads_nowhere_is_one_line(project: Layout) -> None:
    for path, line in (
        (project.stages / "train.py", "from . import extra"),
        (project.source / "aebench/config.py", "from ... import extra"),
    ):
        text = path.read_text()
        path.write_text(f"{text}\n{line}\n")
        with pytest.raises(UserError, match=rf"^{path}: the import of \.+extra leads beyond the package$"):
            found(project)
        path.write_text(text)


def test_a_results_key_has_code_facts_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key("code", seed=0), key("code", seed=1), key("other", seed=0)]
    assert key("code", seed=0) == keys[0]
    monkeypatch.setattr(module, "version", lambda name: "0")
    assert len({*keys, key("code", seed=0)}) == 4


@pytest.mark.parametrize("library", ["torch", "numpy", "scipy", "scikit-learn", "arviz-stats", "safetensors"])
def test_another_version_of_a_library_that_computes_is_another_key(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key("code", seed=0)
    monkeypatch.setattr(module, "version", lambda name: "0" if name == library else version(name))
    assert key("code", seed=0) != before


def test_a_cpu_with_other_instructions_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("code", seed=0)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "another")
    assert key("code", seed=0) != before


# What happens in Python is told as it happens, here and in all processes that are started.
SPY = """\
import os, sys

def tell(event, arguments):
    if event in ("exec", "open"):
        path = str(getattr(arguments[0], "co_filename", arguments[0]))
        if path.endswith(".py" if event == "exec" else ".jinja"):
            os.write(told, (path + "\\n").encode())

told = os.open(os.environ["SPIED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
sys.addaudithook(tell)
"""
STAGES = (("fetch",), ("baseline",), ("train", "vae"), ("evaluate", "vae"), ("report",))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, dict[tuple[str, ...], set[Path]]]:
    """A checkout, and for each stage the files whose code was executed in it and its workers, or read as a template.

    It has one variant, network, optimiser and part of each kind only: each stage imports all that there are.
    """
    spy = tmp_path_factory.mktemp("spy")
    (spy / "sitecustomize.py").write_text(SPY)
    made = working_tree(tmp_path_factory.mktemp("ran"))
    for folder, *kept in (
        ("variants", "vae.py"),
        ("models/networks", "mlp.py"),
        ("models/likelihoods", "gaussian.py"),  # the ex-post density's
        ("models/priors", "standard_normal.py"),
        ("models/posteriors", "diagonal.py"),
        ("models/objectives", "elbo.py"),
        ("training/optimizers", "adam.py"),
        ("training/schedules", "constant.py"),
        ("training/stopping", "patience.py"),
    ):
        for path in (made.root / "src" / "aebench" / folder).iterdir():
            if path.name not in ("__init__.py", *kept):
                path.unlink()
    params = RESULTS.replace("[ae, cvae]", "[vae]").replace("seeds: [0, 1]", "seeds: [0]")
    (made.root / "params.yaml").write_text(
        params.replace("  ae: {kind: ae}\n  cvae: {kind: cvae}", "  vae: {kind: vae, likelihood: gaussian}")
    )

    def used(stage: str, *variant: str) -> set[Path]:
        told = spy / "-".join((stage, *variant))
        item = [] if stage == "report" else ["digits", *variant]
        done = made.run(sys.executable, f"stages/{stage}.py", *item, PYTHONPATH=str(spy), SPIED=str(told))
        assert done.returncode == 0, done.stderr
        here = (Path(line) for line in told.read_text().splitlines() if line.startswith(str(made.root)))
        return {path for path in here if path.is_file()}

    files = {stage: used(*stage) for stage in STAGES}
    shutil.rmtree(made.root / ".aebench" / "store")
    with cluster(made, spy) as address:
        made.edit("params.yaml", "source_dir: null", f"source_dir: null, engine: dask, address: '{address}'")
        # A worker reads all of the package, templates too, to compare its version.
        files["train", "vae"] |= {path for path in used("train", "vae") if path.suffix == ".py"}
    return made, files


@contextmanager
def cluster(made: Checkout, spy: Path) -> Iterator[str]:
    """A Dask scheduler, at this address, and a worker, which tells with the stage that trains what it executes."""
    from distributed import Client

    folder, file = ("--local-directory", str(spy)), spy / "scheduler.json"
    alone = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
    dask, paths = (
        (sys.executable, "-m", "distributed.cli.dask_scheduler"),
        os.pathsep.join((f"{made.root}/src", str(spy))),
    )
    spied = {"PYTHONPATH": paths, "SPIED": str(spy / "train-vae")}
    with made.start(*dask, *alone, "--port", "0") as scheduler:
        address = None
        while not address:
            assert scheduler.poll() is None, scheduler.communicate()[0]
            time.sleep(0.1)
            with suppress(FileNotFoundError, json.JSONDecodeError):  # it is not yet written, or not to its end
                address = json.loads(file.read_text())["address"]
        dask = (*dask[:2], "distributed.cli.dask_worker")
        with made.start(*dask, "--nthreads", "1", "--no-nanny", *folder, *alone, **spied):
            with Client(address, timeout=60, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
            yield address


def unaccounted(
    ran: tuple[Checkout, dict[tuple[str, ...], set[Path]]], kind: str = "vae", architecture: str = "mlp"
) -> dict[str, list[str]]:
    """For each stage the files that were used and do not count, but for the package's own, which offers shortcuts."""
    made, files = ran
    missing = {}
    for (stage, *_), used in files.items():
        extra = (
            used
            - closure(Layout(made.root), stage, *named(kind, architecture, likelihood="gaussian"))
            - {made.root / "src" / "aebench" / "__init__.py"}
        )
        missing[stage] = sorted(path.relative_to(made.root).as_posix() for path in extra)
    return missing


@pytest.mark.slow
def test_whatever_a_stage_executes_counts(ran: tuple[Checkout, dict[tuple[str, ...], set[Path]]]) -> None:
    made, files = ran
    used = {stage[0]: {path.relative_to(made.root).as_posix() for path in paths} for stage, paths in files.items()}
    for stage, name in (
        *(("fetch", "data/datasets.py"), ("baseline", "evaluation/probes.py"), ("train", "execution/processes.py")),
        *(
            ("train", "execution/subprocess_worker.py"),
            ("train", "execution/cluster.py"),
            ("train", "training/optimizers/adam.py"),
        ),
        *(("train", "variants/vae.py"), ("train", "models/networks/mlp.py"), ("evaluate", "evaluation/estimators.py")),
        *(("evaluate", "evaluation/metrics/expost.py"), ("report", "evaluation/metrics/expost.py")),
        *(("report", "reporting/page.html.jinja"), ("report", "reporting/page.js.jinja")),
    ):
        assert f"src/aebench/{name}" in used[stage]  # the spy sees late imports, workers and templates
    assert not any(unaccounted(ran).values())


@pytest.mark.slow
def test_a_closure_with_a_gap_would_be_noticed(
    ran: tuple[Checkout, dict[tuple[str, ...], set[Path]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "src/aebench/variants/vae.py" in unaccounted(ran, kind="ae")["train"]
    assert "src/aebench/models/networks/mlp.py" in unaccounted(ran, architecture="conv")["train"]

    def at_the_top(tree: ast.Module) -> Iterator[str]:
        return imported(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []))

    def without_text(tree: ast.Module) -> Iterator[str]:
        return (name for name in imported(tree) if name != "aebench.execution.subprocess_worker")

    def missed(broken: Callable[[ast.Module], Iterator[str]]) -> dict[str, list[str]]:
        monkeypatch.setattr(module, "_imported", broken)
        module._parsed.cache_clear()
        missing = unaccounted(ran)
        monkeypatch.undo()
        module._parsed.cache_clear()
        return missing

    imported = module._imported
    assert missed(without_text)["train"] == ["src/aebench/execution/subprocess_worker.py"]
    missing = missed(at_the_top)
    assert "src/aebench/training/run.py" in missing["train"]
    assert "src/aebench/reporting/page.py" in missing["report"]
    assert all(missing.values())
