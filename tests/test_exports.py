from pathlib import Path

import pytest
from conftest import ROOT

from aebench import config, variants
from aebench.config import Params
from aebench.data.datasets import facts
from aebench.reporting.exports import _tex
from aebench.reporting.maps import as_json
from aebench.reporting.provenance import provenance


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("vae_beta4", r"vae\_beta4"),
        ("50 % & more #1", r"50 \% \& more \#1"),
        (r"a\b{c}", r"a\textbackslash{}b\{c\}"),
        ("x^2 ~ $y$", r"x\textasciicircum{}2 \textasciitilde{} \$y\$"),
        ("−1.5 ± 0.2", r"$-$1.5 $\pm$ 0.2"),
    ],
)
def test_text_means_nothing_to_latex(text: str, written: str) -> None:
    assert _tex(text) == written


def test_json_cannot_end_the_script_that_holds_it() -> None:
    assert "</" not in as_json({"name": "</script><script>alert(1)</script>"})


def read(root: Path) -> Params:
    return config.read(root / "params.yaml", kinds=variants.kinds(), datasets=facts(()))


def test_the_hash_is_of_code_parameters_raw_files_and_pins_and_of_nothing_else(tmp_path: Path) -> None:
    for folder in ("src", "stages"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "model.py").write_text("x = 1\n")
    (tmp_path / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    before = provenance(read(tmp_path), tmp_path, {"raw": "0"})
    assert before.versions["torch"] == "2.13.0"

    def after(name: str, old: str, new: str) -> str:
        path = tmp_path / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))
        found = provenance(read(tmp_path), tmp_path, {"raw": "0"}).sha256
        path.write_text(content)
        return found

    assert after("params.yaml", "workers: auto", "workers: 1   ") == before.sha256
    (tmp_path / "src" / "notes.txt").write_text("not code")
    assert provenance(read(tmp_path), tmp_path, {"raw": "0"}) == before
    changed = {
        after("params.yaml", "epochs: 10", "epochs: 11"),
        after("src/model.py", "1", "2"),
        after("constraints.txt", "numpy==", "numpy==9"),
        provenance(read(tmp_path), tmp_path, {"raw": "1"}).sha256,
    }
    assert len(changed | {before.sha256}) == 5
