import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from aebench.config import Params
from aebench.reporting.exports import _tex
from aebench.reporting.provenance import Provenance, provenance
from aebench.training.settings import read_params


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


def read(root: Path) -> Params:
    return read_params(root / "params.yaml")


def test_the_hash_is_of_code_parameters_raw_files_and_pins_and_of_nothing_else(tmp_path: Path) -> None:
    for file in ("constraints.txt", "params.yaml"):
        shutil.copy(ROOT / file, tmp_path / file)

    def made(code: str = "0", raw: str = "0") -> Provenance:
        return provenance(read(tmp_path), {"train/vae": code}, tmp_path / "constraints.txt", {"raw": raw})

    def after(name: str, old: str, new: str) -> str:
        path = tmp_path / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))
        found = made().sha256
        path.write_text(content)
        return found

    before = made()
    assert before.versions["torch"] == "2.13.0"
    assert after("params.yaml", "workers: auto", "workers: 1   ") == before.sha256 == made().sha256
    changed = {
        after("params.yaml", "epochs: 10", "epochs: 13"),
        after("constraints.txt", "numpy==", "numpy==9"),
        made(code="1").sha256,
        made(raw="1").sha256,
    }
    assert len(changed | {before.sha256}) == 5
