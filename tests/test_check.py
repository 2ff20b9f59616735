"""The check that begins each `dvc repro`: at once done where nothing has changed, and never content with less."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkout import Checkout, working_tree
from conftest import RESULTS, ROOT

from aebench.paths import Layout

CHECK = "stages/check.py"


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose check has passed."""
    made = working_tree(tmp_path_factory.mktemp("passed"))
    (made.root / "params.yaml").write_text(RESULTS)
    assert made.run(sys.executable, CHECK).returncode == 0
    shutil.copytree(made.root / ".aebench", made.root.with_name("as it was"))
    return made


@pytest.fixture
def project(passed: Checkout) -> Checkout:
    """The same, as its check has left it, which is at once done where a test has left nothing else."""
    passed.git("add", "--all")
    (passed.root / "params.yaml").write_text(RESULTS)
    shutil.rmtree(passed.root / ".aebench")
    shutil.copytree(passed.root.with_name("as it was"), passed.root / ".aebench")
    assert passed.run(sys.executable, CHECK).returncode == 0
    return passed


def imported(project: Checkout) -> set[str]:
    """The packages that a check loads that passes."""
    done = project.run(sys.executable, "-X", "importtime", CHECK)
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def written(project: Checkout) -> dict[str, str]:
    folder = Layout(project.root).fingerprints
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_it_writes_the_fingerprint_of_every_stage_and_variant(project: Checkout) -> None:
    stages = {"fetch", "baseline", "report", "train/ae", "train/cvae", "evaluate/ae", "evaluate/cvae"}
    assert set(written(project)) == stages
    assert all(len(bytes.fromhex(content.strip())) == 32 for content in written(project).values())


def test_where_nothing_has_changed_it_loads_no_library(project: Checkout) -> None:
    assert not imported(project) & {"torch", "pydantic", "numpy", "ruamel", "dvc", "mlflow"}


def own_data_set(root: Path) -> None:
    np.savez(root / "datasets" / "mine.npz", images=np.zeros((40, 2, 2), np.uint8), labels=np.arange(40) % 2)


def appended(name: str, text: str) -> Callable[[Path], None]:
    def append(root: Path) -> None:
        path = root / name
        path.write_text(f"{path.read_text()}{text}")

    return append


def a_flow_to_be_refined(root: Path) -> None:
    shutil.copy(ROOT / "tests/plugins/variants/flow.py", root / "src/aebench/variants")
    params = RESULTS.replace("cvae", "flow")
    (root / "params.yaml").write_text(params.replace("evaluation:\n", "evaluation:\n  proposal: refined\n"))


@pytest.mark.parametrize(
    "change",
    [
        appended("params.yaml", "# words\n"),
        appended("src/aebench/evaluation/probes.py", "# words\n"),
        appended("src/aebench/reporting/page.html.jinja", "\n"),
        appended("stages/train.py", "# words\n"),
        lambda root: shutil.copy(root / "src/aebench/variants/ae.py", root / "src/aebench/variants/mine.py"),
        own_data_set,
        lambda root: (root / ".aebench/code/train/vae").write_text("of a variant that was removed"),
        lambda root: (root / ".aebench/code/train/ae").write_text("another"),
        lambda root: (root / ".aebench/code/fetch").unlink(),
        lambda root: (root / ".aebench/params.ok").unlink(),
        lambda root: shutil.rmtree(root / ".aebench"),
        lambda root: (root / ".aebench/seen").write_bytes(b"\xff"),
    ],
)
def test_after_a_change_it_checks_all_and_then_again_nothing(
    project: Checkout, change: Callable[[Path], object]
) -> None:
    before = written(project)
    change(project.root)
    try:
        assert "pydantic" in imported(project)
        assert written(project) | {"report": ""} == before | {"report": ""}  # which has the template's bytes
        assert (project.root / ".aebench/params.ok").is_file()
        assert "pydantic" not in imported(project)
    finally:
        project.git("checkout", "--quiet", "src", "stages")
        project.git("clean", "--quiet", "--force", "src", "datasets")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            appended("src/aebench/variants/ae.py", "def f(:\n"),
            r"src/aebench/variants/ae.py, line \d+: not valid Python: ",
        ),
        (
            lambda root: (root / "src/aebench/variants/mine.py").write_text("def helper():\n    return 1\n"),
            "src/aebench/variants/mine.py: found no class Config that extends VariantConfig, allowed: ",
        ),
        (appended("params.yaml", "more: 1\n"), "params.yaml: more: unknown key, allowed: "),
        (
            lambda root: (root / "params.yaml").write_text(RESULTS.replace("masking", "masking\n  extra: [gapz]")),
            r"params.yaml: evaluation\.extra\[0\]: found 'gapz', allowed: .* \(did you mean gaps\?\)",
        ),
        (lambda root: (root / "datasets" / "digits").mkdir(), "has the name of a built-in data set"),
        (
            a_flow_to_be_refined,
            "params.yaml: evaluation.proposal: found refined for a q\\(z\\|x\\) that is no Gaussian with a diagonal",
        ),
    ],
)
def test_what_is_wrong_is_one_line_each_time_until_it_is_mended(
    project: Checkout, change: Callable[[Path], object], said: str
) -> None:
    before = written(project)
    change(project.root)
    try:
        for _ in range(2):
            done = project.run(sys.executable, CHECK)
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()
            assert re.search(f"^error: .*{said}", line)
    finally:
        project.git("checkout", "--quiet", "src")
        project.git("clean", "--quiet", "--force", "src")
        (project.root / "params.yaml").write_text(RESULTS)
        shutil.rmtree(project.root / "datasets" / "digits", ignore_errors=True)
    assert "pydantic" not in imported(project)
    assert written(project) == before


EDITED = """
import subprocess, sys
from pathlib import Path
sys.argv = ["stages/train.py"]
sys.path[:0] = ["stages", "src"]
import _stage
from aebench.paths import Layout

def train():
    began_with = _stage.code("ae")
    path = Path("src/aebench/training/optimizers/adam.py")
    path.write_text(path.read_text().replace("beta1=0.9", "beta1=0.8"))
    assert subprocess.run([sys.executable, "stages/check.py"]).returncode == 0
    assert Path(".aebench/code/train/ae").read_text().strip() != began_with
    if FAILS:
        sys.exit(1)

_stage.run(train)
"""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.slow
def test_results_are_of_the_code_that_their_stage_began_with(project: Checkout, fails: bool) -> None:
    """The code is edited and checked, as by a second `make repro`, while the stage works."""
    before = written(project)
    try:
        done = project.run(sys.executable, "-c", EDITED.replace("FAILS", str(fails)))
        assert (done.returncode == 0) is not fails, done.stderr
        assert (written(project)["train/ae"] == before["train/ae"]) is not fails
        assert written(project)["train/cvae"] != before["train/cvae"]
    finally:
        project.git("checkout", "--quiet", "src")


def test_a_gpu_is_looked_up_each_time(project: Checkout) -> None:
    """Here it is a pretended one."""
    project.edit("params.yaml", "device: cpu", "device: cuda")
    script = (
        "import sys; sys.path.insert(0, 'stages'); import _stage; _stage.params(); import torch, check;"
        "torch.cuda.is_available = lambda: True; check.check()"
    )
    assert project.run(sys.executable, "-c", script).returncode == 0
    assert "pydantic" in project.run(sys.executable, "-X", "importtime", CHECK).stderr


OLDER_CPU = """
import sys
sys.path[:0] = ["stages", "src"]
from pathlib import Path
from aebench import numerics
numerics._CPU = Path("cpuinfo")
import check
check.check()
"""


@pytest.mark.parametrize(("setting", "lines"), [("portable", 1), ("native", 0)])
def test_a_cpu_on_which_portable_results_differ_is_named(passed: Checkout, setting: str, lines: int) -> None:
    (passed.root / "cpuinfo").write_text("flags\t: fpu sse avx\n")
    (passed.root / "params.yaml").write_text(RESULTS.replace("numerics: native", f"numerics: {setting}"))
    for _ in range(2):
        done = passed.run(sys.executable, "-c", OLDER_CPU)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("its results will differ from those in their last bits") == lines
        assert len(done.stderr.splitlines()) == lines
