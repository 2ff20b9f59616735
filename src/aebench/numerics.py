"""Which code the numerical libraries may run, set before they load, and how torch computes after that.

Weights that were trained on two kinds of CPU differ, since a matrix product differs in its last bits between
instruction sets and between libraries that look at the CPU's maker. `portable` leaves one path on every x86-64 CPU with
AVX2 and FMA: limits on instructions, here, and NumPy in place of some of torch's operators, in `aebench.portable`.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

Numerics = Literal["portable", "native"]

# A run uses one thread: its result then depends neither on the number of cores nor on how many runs share them.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# What clusters set binds the first thread to one core, and with it every worker that is forked from this process.
_BINDING = {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"}

# Keep freed memory: handing large arrays back to the system and faulting them in anew costs a tenth of the time.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "268435456"}

# Tells a worker process which numerics its stage was limited to.
_CHOSEN = "AEBENCH_NUMERICS"

_AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}

_CPU = Path("/proc/cpuinfo")


def has_avx2() -> bool:
    """Whether this is an x86-64 CPU with AVX2 and FMA, on which portable results are the same everywhere."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = next(line for line in _CPU.read_text().splitlines() if line.startswith("flags")).split()
    except (OSError, StopIteration):  # not Linux; few CPUs without are left
        return True
    return {"avx2", "fma"} <= set(flags)


def environment(numerics: Numerics) -> dict[str, str]:
    """This process's environment with the limits for `numerics` in it, for a process that is to be started."""
    outside = {name: value for name, value in os.environ.items() if name not in _AVX2.keys() | _BINDING}
    limits = _AVX2 if numerics == "portable" and has_avx2() else {}  # torch would run AVX2 code where there is none
    return outside | _ONE_THREAD | _MEMORY | {_CHOSEN: numerics} | limits


def limit(numerics: Numerics) -> None:
    """Set the limits in this process's environment, which its worker processes inherit.

    Raises:
        RuntimeError: torch or NumPy is loaded already, so that the limits would come too late.
    """
    loaded = [name for name in ("torch", "numpy") if name in sys.modules]
    if loaded:
        raise RuntimeError(f"numerics must be limited before {' and '.join(loaded)} is imported")
    limited = environment(numerics)
    for name in set(os.environ) - set(limited):
        del os.environ[name]
    os.environ.update(limited)


def begin() -> None:
    """What every process that computes results begins with, wherever it is, once its environment has the limits.

    One thread for torch, 0 for tiny numbers and, where numerics are `portable`, NumPy for some of torch's operators.
    """
    import torch

    from aebench import portable

    torch.set_num_threads(1)
    # Weights of pixels that are nearly always black leave tiny numbers in Adam's averages, which halve its speed.
    torch.set_flush_denormal(True)
    if os.environ.get(_CHOSEN) == "portable":
        portable.replace()
