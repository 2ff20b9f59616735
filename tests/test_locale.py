"""A system whose locale knows ASCII alone, and names in other letters."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import working_tree
from conftest import RESULTS
from PIL import Image

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CLASSES = ("Öl", "日本")


@pytest.mark.slow
def test_results_do_not_depend_on_the_locale(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "größer")
    said = project.run(sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())", **ASCII)
    assert said.stdout == "ascii\n"
    params = RESULTS.replace("[digits]", "[bilder]").replace("[ae, cvae]", "[ae]").replace("[0, 1]", "[0]")
    (project.root / "params.yaml").write_text(f"# Größe: 日本\n{params}", encoding="utf-8")
    random = np.random.default_rng(0)
    for name in CLASSES:
        folder = project.root / "datasets" / "bilder" / name
        folder.mkdir(parents=True)
        for number in range(60):
            Image.fromarray(random.integers(0, 256, (4, 4), dtype=np.uint8)).save(folder / f"größe {number}.png")

    def stages(*commands: tuple[str, ...], **environment: str) -> None:
        for name, *arguments in commands:
            done = project.run(sys.executable, f"stages/{name}.py", *arguments, **environment)
            assert done.returncode == 0, done.stderr

    first, last = (("check",), ("fetch", "bilder")), ("report",)
    stages(*first, ("train", "bilder", "ae"), ("evaluate", "bilder", "ae"), ("baseline", "bilder"), last)
    before = project.snapshot()
    assert all(name in (project.root / "reports" / "index.html").read_text(encoding="utf-8") for name in CLASSES)
    shutil.rmtree(project.root / ".aebench")
    for folder in ("data", "reports/figures"):
        shutil.rmtree(project.root / folder)
    stages(*first, last, **ASCII)
    assert project.snapshot() == before
