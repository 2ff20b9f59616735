"""A file that cannot be a choice is named, in one line."""

import re
from itertools import count
from pathlib import Path

import pytest
from conftest import tiny

from aebench import variants
from aebench.config import Block
from aebench.errors import UserError
from aebench.plugins import configurations
from aebench.variants import ae

NUMBERS = count()
GOOD = "from aebench.config import Block\nclass Config(Block): ...\ndef make(): ...\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of choices with a good file and a helper, under a name of its own: they stay imported."""
    folder = tmp_path / f"choices_{next(NUMBERS)}"
    folder.mkdir()
    for name, content in {"__init__": "", "_helper": "", "good": GOOD}.items():
        (folder / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_what_editors_and_helpers_leave_is_no_choice(package: Path) -> None:
    (package / ".#good.py").symlink_to("me@host.1234:1700000000")  # Emacs's lock
    for name in (".good.py.swp", "good.py~", "#good.py#", ".DS_Store"):
        (package / name).write_text("class Config(:")
    assert set(configurations(package.name, Block, "make")) == {"good"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = 1\nclass Config(:\n", r": cannot be imported: SyntaxError: invalid syntax \(mine.py, line 2\)"),
        ("\nimport nowhere\n", r", line 2: cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("def f():\n    1 / 0\n\nf()\n", r", line 2: cannot be imported: ZeroDivisionError: division by zero"),
        ("def helper(): ...\n", r": found no class Config that extends Block, allowed: with one, or .* as a helper's"),
        ("class Config: ...\n", r": found no class Config that extends Block, allowed: .*"),
        ("Config = 3\n", r": found no class Config that extends Block, allowed: .*"),
        (GOOD.replace("make", "build"), r": found no function make, allowed: with one"),
    ],
)
def test_a_file_that_is_no_choice_is_one_line(package: Path, content: str, said: str) -> None:
    (package / "mine.py").write_text(content)
    with pytest.raises(UserError) as raised:
        configurations(package.name, Block, "make")
    assert re.fullmatch(re.escape(str(package / "mine.py")) + said, str(raised.value))


def test_a_variant_whose_file_has_no_model_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ae, "AE")
    file = Path(variants.__file__).with_name("ae.py")
    with pytest.raises(UserError, match=rf"^{file}: found 0 classes that extend Autoencoder, allowed: one$"):
        tiny("ae")
