"""What produced the results: code and parameters by their hash, versions, raw data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aebench.config import Params

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "arviz-stats", "pandas", "dvc", "mlflow")


@dataclass(frozen=True)
class Provenance:
    """`sha256` of code, parameters, raw data and pins; `versions` by package; SHA-256 of raw `files` by name."""

    sha256: str
    versions: dict[str, str]
    files: dict[str, str]


def provenance(params: Params, root: Path, files: Mapping[str, str]) -> Provenance:
    """What the checkout at `root` makes results from: code, settings and pins there, and the raw `files` by SHA-256.

    How the work is done and tracked, `execution` and `tracking` in params.yaml, does not count.
    """
    settings = params.model_dump(mode="json", exclude={"execution", "tracking"})
    pins = root / "constraints.txt"
    code = sorted(path for folder in ("src", "stages") for path in (root / folder).rglob("*.py"))
    digest = hashlib.sha256(json.dumps([settings, files], sort_keys=True).encode())
    for path in (*code, pins):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    pinned = dict(line.split("==") for line in pins.read_text().splitlines() if "==" in line)
    return Provenance(digest.hexdigest(), {name: pinned[name] for name in PACKAGES}, dict(files))
