"""check: params.yaml is in order, no result is left of what it no longer names, and which code each stage has now.

A bad value stops here, before DVC deletes any output of another stage. The check begins each `dvc repro`; where nothing
has changed since it last passed, it ends at once. It then does not look at the results: those of a variant that
params.yaml does not name, put back by hand, stay until the next change.
"""

import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import _stage

from aebench.fingerprint import code_hash, digest, source_files
from aebench.numerics import has_avx2

if TYPE_CHECKING:
    from aebench.config import Params

LAYOUT = _stage.LAYOUT


def check() -> None:
    """Write the files on which the other stages depend: a constant one, and the fingerprints of their code."""
    code = [*source_files(LAYOUT.source), *source_files(LAYOUT.stages)]
    read = _read(code)
    if _content(LAYOUT.seen) == (read + _written()).encode():
        return
    code_hash(code, LAYOUT.root)  # a file that is not valid Python is named here, before it is imported
    params = _stage.params()
    from aebench.pruning import prune

    _check_with_surroundings(params)
    differs = params.numerics == "portable" and not has_avx2()
    if differs:
        print(
            "numerics: portable gives the same results on all x86-64 CPUs with AVX2 and FMA; "
            "this CPU is none, and its results will differ from those in their last bits",
            file=sys.stderr,
        )
    prune(params, LAYOUT)
    _stage.empty(LAYOUT.fingerprints)
    _stage.all_code()
    _stage.leave_code()
    _stage.write(LAYOUT.checked, "params.yaml is in order.\n")
    # Whether there is still a GPU has to be looked up each time, and what differs has to be said each time.
    _stage.write(LAYOUT.seen, "" if params.device != "cpu" or differs else read + _written())


def _check_with_surroundings(params: "Params") -> None:
    """What is not looked at where params.yaml is read, which every stage does: few of them depend on this code."""
    from aebench.devices import available
    from aebench.evaluation.metrics import chosen
    from aebench.training.settings import check_with_fetched

    check_with_fetched(params, LAYOUT.datasets, LAYOUT.data)
    available(params.device)
    chosen(params.evaluation.extra)
    if params.evaluation.proposal == "refined":  # else nothing of the evaluation need be loaded
        from aebench.evaluation.preflight import require_refinable

        require_refinable(params)


def _read(code: Iterable[Path]) -> str:
    """The hash of all that the check depends on, but for a GPU: files, the names of data sets, versions, the CPU."""
    user_datasets = [[str(path), path.is_dir()] for folder in LAYOUT.datasets for path in sorted(folder.glob("*"))]
    versions = [sys.version, *map(version, ("pydantic", "ruamel.yaml", "torch"))]
    return digest(json.dumps([_hashes([LAYOUT.params, *code]), user_datasets, versions, has_avx2()]).encode())


def _written() -> str:
    """The hash of all that lies where the check writes."""
    return digest(json.dumps(_hashes([LAYOUT.checked, *sorted(LAYOUT.fingerprints.rglob("*"))])).encode())


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    return {str(path): digest(_content(path)) for path in paths}


def _content(path: Path) -> bytes:
    """What a file holds; nothing where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    _stage.run(check)
