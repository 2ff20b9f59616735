"""What every stage begins with: this checkout's code, its parameters, and errors in one line."""

import gc
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]

if not all(map(find_spec, ("mlflow", "pydantic", "torch"))):
    # DVC runs the `python` of PATH, which need not be that of the environment in which DVC itself lives.
    for checkout in (ROOT, Path(os.environ.get("DVC_ROOT", ROOT))):
        python = checkout / ".venv" / "bin" / "python"
        if python.exists() and Path(sys.executable) != python:
            os.execv(python, [str(python), *sys.argv])
    sys.exit(
        f"{sys.executable} lacks the dependencies of aebench; run `make repro`, which sets .venv up, "
        'or pip install "aebench[pipeline]"'
    )

# The code that runs is that of this checkout, also where another one is installed.
sys.path.insert(0, str(ROOT / "src"))

from aebench.errors import ConfigError, UserError  # noqa: E402
from aebench.paths import Layout, empty, write  # noqa: E402

if TYPE_CHECKING:
    from aebench.config import Params

LAYOUT = Layout(ROOT)
# Fingerprints by the files in which they are left when the stage has ended.
_left: dict[Path, str] = {}
__all__ = ["LAYOUT", "ROOT", "all_code", "cell", "code", "empty", "leave_code", "name", "params", "run", "write"]


class _Unfailing(io.FileIO):
    """Where a disk is full or a reader gone, what is written is lost."""

    def write(self, content: Any) -> int:
        """Write it, or take it for written."""
        try:
            return super().write(content)
        except OSError:
            return len(content)


@cache
def params() -> "Params":
    """params.yaml, checked, once the limits on this process's libraries are set.

    Raises:
        ConfigError: a value is not allowed.
        DataError: two data sets have one name.
    """
    from aebench import config, numerics

    numerics.limit(config.read_numerics(LAYOUT.params))
    from aebench.training.settings import read_params  # imports torch, which must come after

    return read_params(LAYOUT.params, LAYOUT.datasets)


def cell(dataset: str, variant: str | None = None) -> "Params":
    """params.yaml, checked, and found to name this data set and variant.

    Raises:
        UserError: it does not, or it is not in order.
    """
    checked = params()
    for key, name, named in (("datasets", dataset, checked.datasets), ("variants", variant, checked.variants)):
        if name is not None and name not in named:
            raise UserError(f"{name!r} is not among {key} in params.yaml, allowed: {', '.join(named)}")
    return checked


def name() -> str:
    """The name of the stage that runs."""
    return Path(sys.argv[0]).stem


def code(variant: str | None = None) -> str:
    """The fingerprint of this stage's code, with those of what its block names where the stage works on one.

    The stage leaves it for DVC at its end, so that DVC knows the code that made the results: that of the stage's
    beginning, although it may have been edited since the check, and the check may run again while the stage works.

    Raises:
        UserError: a file is not valid Python.
    """
    from aebench.fingerprint import fingerprint

    of_stage = fingerprint(LAYOUT, name(), *(params().modules(variant) if variant else ()))
    _left[LAYOUT.fingerprint(name(), *([variant] if variant else []))] = of_stage
    return of_stage


def all_code() -> dict[str, str]:
    """The fingerprints of all stages, by the names of the files in which they are left for DVC at this stage's end.

    Raises:
        UserError: a file is not valid Python.
    """
    from aebench.fingerprint import fingerprints

    by_stage = fingerprints(LAYOUT, {variant: params().modules(variant) for variant in params().variants})
    _left.update({LAYOUT.fingerprint(*stage): fingerprint for stage, fingerprint in by_stage.items()})
    return {"/".join(stage): fingerprint for stage, fingerprint in by_stage.items()}


def leave_code() -> None:
    """Write, for DVC, the fingerprints that were asked for.

    Raises:
        FileError: they cannot be written.
    """
    for path, fingerprint in _left.items():
        write(path, f"{fingerprint}\n")


def run(stage: Callable[..., None]) -> None:
    """Call `stage` with the command line's arguments; an error that a user can mend is one line and exit code 1.

    What a stage says on standard error is no result: where it cannot be written, the stage does its work all the same.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # see aebench.interrupts
    if sys.stderr:
        unfailing = io.BufferedWriter(_Unfailing(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(unfailing, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)
    try:
        inspect.signature(stage).bind(*sys.argv[1:])
    except TypeError:
        sys.exit(
            f"usage: python {sys.argv[0]} {' '.join(map(str.upper, inspect.signature(stage).parameters))}".rstrip()
        )
    try:
        stage(*sys.argv[1:])
        leave_code()
    except UserError as error:
        file = f"{LAYOUT.params.name}: "
        of_params = isinstance(error, ConfigError) and not str(error).startswith(file)
        sys.exit(f"error: {file if of_params else ''}{error}")
    except KeyboardInterrupt:  # from a block with something to end
        sys.exit(130)
    finally:
        gc.freeze()  # else Python looks all objects through as it ends: 0.8 s with torch and mlflow
