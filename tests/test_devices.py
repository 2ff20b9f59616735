import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from aebench.devices import available
from aebench.errors import ConfigError

without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


def test_the_cpu_is_always_there() -> None:
    assert available("cpu") == torch.device("cpu")


@without_a_gpu
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"device: found cuda, but torch .* allowed: cpu, or cuda with") as caught:
        available("cuda")
    assert "\n" not in str(caught.value)


@without_a_gpu
def test_the_check_stops_before_any_stage_that_would_need_a_gpu(tmp_path: Path) -> None:
    for folder in ("src", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "params.yaml").read_text().replace("device: cpu ", "device: cuda ")
    assert "device: cuda" in text
    (tmp_path / "params.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "stages/check.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: device: found cuda, but torch")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / ".aebench").exists()


@without_a_gpu
def test_the_benchmark_of_a_gpu_ends_in_one_line_without_one() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: device: found cuda, but torch")
    assert done.stderr.count("\n") == 1
