"""What produced the results: code and parameters by their hash, versions, raw data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aebench.config import Params
from aebench.fingerprint import digest

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "arviz-stats", "pandas", "dvc", "mlflow")


@dataclass(frozen=True)
class Provenance:
    """`sha256` of code, parameters, raw data and pins; `versions` by package; SHA-256 of raw `files` by name."""

    sha256: str
    versions: dict[str, str]
    files: dict[str, str]


def provenance(params: Params, code: Mapping[str, str], pins: Path, files: Mapping[str, str]) -> Provenance:
    """What results are made from.

    Args:
        params: the settings; how the work is done and tracked, `execution` and `tracking`, does not count.
        code: the fingerprints of all stages' code.
        pins: the file of all packages' versions.
        files: the SHA-256 of the raw files, by name.
    """
    settings = params.model_dump(mode="json", exclude={"execution", "tracking"})
    text = pins.read_text(encoding="utf-8")
    sha256 = digest(json.dumps([dict(code), settings, dict(files), text], sort_keys=True).encode())
    versions = pinned(pins)
    return Provenance(sha256, {name: versions[name] for name in PACKAGES}, dict(files))


def pinned(pins: Path) -> dict[str, str]:
    """The versions of the packages in a file of pins, `PACKAGE==VERSION` in a line each."""
    return dict(line.split("==") for line in pins.read_text(encoding="utf-8").splitlines() if "==" in line)
