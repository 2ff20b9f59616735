import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from aebench import numerics

SCRIPT = """
import json, os, sys
sys.path.insert(0, "src")
from aebench import numerics
numerics.limit(sys.argv[1])
numerics.begin()
import torch
from aebench import portable
print(json.dumps([torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),
                  os.environ.get("OPENBLAS_CORETYPE"), portable._library is not None]))
"""


def capabilities(setting: str) -> list[object]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, setting], cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not numerics.has_avx2(), reason="this CPU has no AVX2")
def test_portable_keeps_to_avx2_one_thread_and_numpy_s_operators() -> None:
    assert capabilities("portable") == ["AVX2", 1, "Haswell", True]


def test_native_sets_no_limit_but_one_thread() -> None:
    assert capabilities("native")[1:] == [1, None, False]


def test_limits_that_would_come_too_late_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"before .*torch.* is imported"):
        numerics.limit("portable")


@pytest.mark.parametrize(
    ("machine", "flags", "found"),
    [
        ("x86_64", "flags\t\t: fpu sse avx avx2 fma", True),
        ("x86_64", "flags\t\t: fpu sse avx fma", False),
        ("x86_64", "flags\t\t: fpu sse avx avx2", False),
        ("AMD64", None, True),
        ("aarch64", "Features\t: fp asimd", False),
        ("arm64", None, False),
    ],
)
def test_only_cpus_with_avx2_are_told_to_use_it(
    machine: str, flags: str | None, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = tmp_path / "cpuinfo"
    if flags is not None:
        cpu.write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(numerics, "_CPU", cpu)
    monkeypatch.setattr(numerics.platform, "machine", lambda: machine)
    assert numerics.has_avx2() is found
    assert ("ATEN_CPU_CAPABILITY" in numerics.environment("portable")) is found
    assert "ATEN_CPU_CAPABILITY" not in numerics.environment("native")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core, to which all is bound")
def test_no_setting_of_a_cluster_s_binds_all_workers_to_one_core() -> None:
    script = (
        SCRIPT.partition("print")[0] + "torch.rand(300, 300) @ torch.rand(300, 300); print(os.sched_getaffinity(0))"
    )
    binding = {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0"}
    command = [sys.executable, "-c", script, "native"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **binding}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{os.sched_getaffinity(0)}\n"
