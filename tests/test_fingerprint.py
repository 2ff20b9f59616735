"""A result's key changes with whatever changes the result, and with nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from aebench import fingerprint as module
from aebench.fingerprint import fingerprint

TRAINING = ("aebench.training.run", "aebench.variants.vae")
EVALUATION = ("aebench.evaluation.evaluate", "aebench.variants.vae")
BASELINES = ("aebench.evaluation.baselines",)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the source, from which the code's hash is taken."""
    shutil.copytree(ROOT / "src" / "aebench", tmp_path / "aebench")
    monkeypatch.setattr(module, "_SOURCE", tmp_path)
    module._code.cache_clear()
    yield tmp_path / "aebench"
    module._code.cache_clear()


def changed(path: Path, old: str, new: str, modules: tuple[str, ...] = TRAINING) -> bool:
    """Whether this edit changes the key of what `modules` compute, a VAE's training."""
    before = fingerprint(*modules, seed=0)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    module._code.cache_clear()
    after = fingerprint(*modules, seed=0)
    path.write_text(text)
    module._code.cache_clear()
    return before != after


def test_facts_count() -> None:
    assert fingerprint(*TRAINING, seed=0) == fingerprint(*TRAINING, seed=0)
    assert fingerprint(*TRAINING, seed=0) != fingerprint(*TRAINING, seed=1)
    assert fingerprint(*TRAINING, seed=0) != fingerprint("aebench.training.run", "aebench.variants.ae", seed=0)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/train.py", "epoch=epoch", "epoch=None"),
        ("training/adam.py", "eps=1e-8", "eps=1e-7"),
        ("models/networks.py", "nn.ReLU(inplace=True)", "nn.Tanh()"),
        ("variants/vae.py", "self.encoder(x).chunk(2, dim=-1)", "self.encoder(x * 2).chunk(2, dim=-1)"),
        ("data/datasets.py", "div_(255)", "div_(256)"),
        ("randomness.py", 'digest[:8], "big"', 'digest[:8], "little"'),
    ],
)
def test_code_that_a_run_uses_counts(source: Path, file: str, old: str, new: str) -> None:
    assert changed(source / file, old, new)


@pytest.mark.parametrize("modules", [TRAINING, EVALUATION, BASELINES])
def test_what_every_worker_does_to_torch_counts(modules: tuple[str, ...], source: Path) -> None:
    assert changed(source / "numerics.py", "set_flush_denormal(True)", "set_flush_denormal(False)", modules)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("variants/vae.py", "from .extra import WIDTH"),
        ("variants/vae.py", "from . import extra"),
        ("variants/__init__.py", "from .extra import WIDTH"),
        ("models/networks.py", "from ..variants.extra import WIDTH"),
        ("models/networks.py", "from ..variants import extra"),
    ],
)
def test_what_a_relative_import_names_counts(source: Path, file: str, line: str) -> None:
    (source / "variants" / "extra.py").write_text("WIDTH = 1\n")
    path = source / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    module._code.cache_clear()
    assert changed(source / "variants" / "extra.py", "1", "2")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/autoencoder.py", '"""What a loss takes at random', '"""What a loss draws'),
        ("models/autoencoder.py", '    """log p(y), `[C]`; looked at only where a label enters."""\n', ""),
        ("models/autoencoder.py", '"""p(z), or p(z|y): event shape', '"""p(z): event shape'),
        ("training/train.py", '"""One training loop', '"""A training loop'),
        ("training/train.py", "    Args:\n", "    Arguments:\n"),
        ("training/train.py", "    return progress.end()", "    # done\n\n    return progress.end()"),
        ("variants/cvae.py", "self.concat =", "self.other ="),
        ("evaluation/probes.py", "NEIGHBOURS = 5", "NEIGHBOURS = 6"),
        ("execution/jobs.py", "import time", "import time as time"),
        ("tracking/sync.py", "import os", "import os as os"),
    ],
)
def test_words_and_code_that_it_does_not_use_do_not(source: Path, file: str, old: str, new: str) -> None:
    assert not changed(source / file, old, new)


def test_a_new_variant_changes_no_other(source: Path) -> None:
    before = fingerprint(*TRAINING)
    shutil.copy(source / "variants" / "ae.py", source / "variants" / "mine.py")
    module._code.cache_clear()
    assert fingerprint(*TRAINING) == before


def test_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(*TRAINING)
    monkeypatch.setattr(module, "version", lambda name: "0" if name == "torch" else "1")
    assert fingerprint(*TRAINING) != before
