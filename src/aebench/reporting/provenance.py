"""What produced the results: code and parameters by their hash, versions, raw data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from aebench.config import Params
from aebench.fingerprint import digest, fingerprints
from aebench.paths import Layout

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "arviz-stats", "pandas", "dvc", "mlflow")


@dataclass(frozen=True)
class Provenance:
    """`sha256` of code, parameters, raw data and pins; `versions` by package; SHA-256 of raw `files` by name."""

    sha256: str
    versions: dict[str, str]
    files: dict[str, str]


def provenance(params: Params, layout: Layout, files: Mapping[str, str]) -> Provenance:
    """What a checkout makes results from: its stages' code, settings and pins, and the raw `files` by SHA-256.

    How the work is done and tracked, `execution` and `tracking` in params.yaml, does not count, nor do words in code.
    """
    settings = params.model_dump(mode="json", exclude={"execution", "tracking"})
    code = {"/".join(stage): found for stage, found in fingerprints(layout, params.kinds()).items()}
    pins = layout.pins.read_text(encoding="utf-8")
    sha256 = digest(json.dumps([code, settings, files, pins], sort_keys=True).encode())
    pinned = dict(line.split("==") for line in pins.splitlines() if "==" in line)
    return Provenance(sha256, {name: pinned[name] for name in PACKAGES}, dict(files))
