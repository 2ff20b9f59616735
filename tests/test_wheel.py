"""The wheel: a library that loads trained models, in an environment with what it asks for and nothing else."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from checkout import working_tree
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_train import config, silent

from aebench.training.run import train_run

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
HEAVY = {"dask", "distributed", "dvc", "matplotlib", "mlflow", "pandas", "scikit-learn", "scipy"}


def test_the_package_alone_does_not_load_torch() -> None:
    loaded = "import sys, aebench; print(*{'numpy', 'pydantic', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).strip() == ""


def needed(requirements: list[str]) -> Iterator[str]:
    """The distributions that these bring, without extras."""
    waiting, seen = list(map(Requirement, requirements)), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in seen:
            seen.add(name)
            yield name
            waiting += map(Requirement, distribution(name).requires or ())


@dataclass
class Installed:
    """An environment of its own in which the wheel is installed, and the folder where programs run."""

    wheel: Path
    packages: set[str]
    folder: Path
    python: Path

    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        command = [self.python, "-I", "-c", program]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, digits_file: Path) -> Installed:
    """What `pip install` makes of a checkout where it finds the wheel's requirements, and none but them."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = working_tree(folder / "tree").root
    build = ("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([*PIP, *build, tree], check=True)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as content:
        (metadata,) = (name for name in content.namelist() if name.endswith("/METADATA"))
        requirements = re.findall(r"^Requires-Dist: (.*)$", content.read(metadata).decode(), re.MULTILINE)
    packages = set(needed(requirements))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv").glob("lib/*/site-packages")
    for package in packages:
        here = distribution(package)
        for name in {file.parts[0] for file in here.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(here.locate_file(name))
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-index", wheel], check=True)
    run = train_run(config("vae"), "digits", 0, digits_file, silent)
    for dataset in ("digits", "fashion_mnist"):
        run.write(folder / "runs" / dataset / "vae" / "seed-0")
    (folder / "data").mkdir()
    shutil.copyfile(digits_file, folder / "data" / "digits.safetensors")
    return Installed(wheel, packages, folder, python)


@pytest.mark.slow
def test_the_wheel_is_light(installed: Installed) -> None:
    assert {"torch", "numpy"} <= installed.packages
    assert not HEAVY & installed.packages


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    source = installed.folder / "tree" / "src"
    there = {path.relative_to(source).as_posix() for path in (source / "aebench").rglob("*") if path.is_file()}
    with ZipFile(installed.wheel) as content:
        held = {name for name in content.namelist() if ".dist-info/" not in name}
    assert held == there
    assert any(name.endswith(".jinja") for name in held)


@pytest.mark.slow
def test_a_trained_run_is_loaded_where_nothing_else_is_installed(installed: Installed) -> None:
    """As README.md and docs/guide.md show it."""
    (readme,), guide = (
        re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        for page in ("README.md", "docs/guide.md")
    )
    (loading,) = (block for block in guide if "load_run" in block)
    done = installed.run(
        f"import torch\nx = torch.rand(5, 64)\n{readme}"
        "print(codes.shape, vae.reconstruct(x).shape, aebench.__file__)\n"
        f"{loading}"
        f"import sys\nprint(set(sys.modules) & {HEAVY | {'sklearn'}!r})"
    )
    assert done.returncode == 0, done.stderr
    of_readme, of_guide, heavy = done.stdout.splitlines()
    assert of_readme.startswith("torch.Size([5, 3]) torch.Size([5, 64])")
    assert str(installed.folder / "venv") in of_readme
    assert of_guide == "torch.Size([5, 3]) torch.Size([5, 64]) torch.Size([3, 3])"
    assert heavy == "set()"


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "import aebench.evaluation.estimators",
        "import aebench.execution.jobs",
        "import aebench.reporting.page",
        "import aebench.tracking.sync",
        "import aebench.training.settings",
        "from aebench.data import datasets as d; d.fetch('digits', d.Path(), None, print)",
        "from aebench.data import image_files; image_files.read(None, b'', print)",
    ],
)
def test_what_is_not_installed_is_named_with_what_installs_it(installed: Installed, use: str) -> None:
    last = installed.run(use).stderr.splitlines()[-1]
    assert re.search(r'MissingPackage: aebench[\w.]+ needs [\w, ]+: pip install "aebench\[pipeline\]"$', last), last
