"""dvc.yaml and the code agree on what a stage depends on."""

import ast
from importlib.util import resolve_name
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def module_file(name: str) -> Path | None:
    """The file of a project module, given by its dotted name."""
    for root in (ROOT / "src", ROOT / "stages"):
        path = root.joinpath(*name.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def imported(path: Path) -> set[Path]:
    """The project files that `path` imports, wherever in the file, with the packages around them."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(path.parent.relative_to(ROOT / "src").parts) if path.is_relative_to(ROOT / "src") else ""
    # The package itself offers `load_run` to users; no stage calls it.
    nodes = tree.body if path == ROOT / "src/aebench/__init__.py" else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("aebench.execution."):  # run by its name
            names = [node.value]
        else:
            continue
        for name in names:
            parts = name.split(".")
            found |= {module_file(".".join(parts[:length])) for length in range(1, len(parts) + 1)}
    if path == ROOT / "src/aebench/variants/__init__.py":  # imports every file beside it
        found |= set(path.parent.glob("*.py"))
    if path == ROOT / "src/aebench/reporting/page.py":  # loads the template beside it
        found |= set(path.parent.glob("*.jinja"))
    return {file for file in found if file}


def closure(path: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        current = waiting.pop()
        found.add(current)
        if current.suffix == ".py":
            waiting |= imported(current) - found
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_it_imports_and_on_no_other(stage: str) -> None:
    dependencies = {ROOT / path for path in STAGES[stage]["deps"]}
    files = closure(ROOT / "stages" / f"{stage}.py")
    code = {path for path in dependencies if path.is_relative_to(ROOT / "src") or path.is_relative_to(ROOT / "stages")}
    missing = {file for file in files if not any(file.is_relative_to(path) for path in code)}
    needless = {path for path in code if not any(file.is_relative_to(path) for file in files)}
    assert not missing
    assert not needless


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "check"])
def test_every_stage_waits_for_the_check(stage: str) -> None:
    assert ".aebench/params.ok" in STAGES[stage]["deps"]


def test_every_module_is_reached_by_a_stage() -> None:
    """Nothing lies in the package that the pipeline does not use."""
    used = set().union(*(closure(path) for path in (ROOT / "stages").glob("*.py")))
    assert {path for path in (ROOT / "src").rglob("*.py")} <= used


@pytest.mark.parametrize("script", ["scripts/demo.py", "benchmarks/bench.py"])
def test_copies_of_the_project_hold_what_its_stages_depend_on(script: str) -> None:
    """Those that run the pipeline in a copy name what they copy."""
    outputs = (".aebench", "data", "runs", "evaluations", "reports")
    dependencies = {Path(path).parts[0] for stage in STAGES.values() for path in stage["deps"]} - {*outputs}
    strings = {
        node.value for node in ast.walk(ast.parse((ROOT / script).read_text())) if isinstance(node, ast.Constant)
    }
    assert dependencies == {"constraints.txt", "datasets", "stages", "src"}
    assert dependencies - {"datasets"} | {"datasets/README.md"} <= strings
