import json
import subprocess
import sys

import pytest
from conftest import ROOT

from aebench import numerics

SCRIPT = """
import json, os, sys
sys.path.insert(0, "src")
from aebench import numerics
numerics.limit(sys.argv[1])
import torch
print(json.dumps([torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),
                  os.environ.get("MKL_CBWR")]))
"""


def capabilities(setting: str) -> list[object]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, setting], cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[object] = json.loads(done.stdout)
    return found


def test_portable_keeps_to_avx2_and_one_thread() -> None:
    capability, threads, mkl = capabilities("portable")
    assert capability in ("AVX2", "DEFAULT")
    assert threads == 1
    assert mkl == "AVX2,STRICT"


def test_native_sets_no_limit_but_one_thread() -> None:
    _, threads, mkl = capabilities("native")
    assert threads == 1
    assert mkl is None


def test_limits_that_would_come_too_late_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"before .*torch.* is imported"):
        numerics.limit("portable")
