"""constraints.txt pins what pyproject.toml asks for, and all that those packages need."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LINES}


def asked_for() -> Iterator[Requirement]:
    extras = PROJECT["optional-dependencies"]
    for line in (*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)):
        if not line.startswith(PROJECT["name"]):
            yield Requirement(line)


def needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    """What an installed package needs on this system with these extras."""
    try:
        found = requires(name) or []
    except PackageNotFoundError:
        found = []
    for requirement in map(Requirement, found):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def test_a_line_pins_one_package() -> None:
    assert all(line.count("==") == 1 and " " not in line for line in LINES)
    assert len(PINS) == len(LINES)


def test_every_pin_lies_within_the_bounds_of_the_project() -> None:
    for requirement in asked_for():
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), requirement


def test_whatever_the_project_needs_is_pinned() -> None:
    waiting, seen = list(asked_for()), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) not in seen:
            seen.add((name, frozenset(requirement.extras)))
            waiting += needs(requirement.name, requirement.extras)
    # What a CUDA build of torch brings depends on the build, not on the version.
    missing = {name for name, _ in seen} - set(PINS) - {"setuptools"}
    assert not {name for name in missing if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert len(seen) > len(PINS) / 2
