"""dvc.yaml and the code agree on what a stage depends on."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from aebench.fingerprint import STAGES, STAGES_OF_A_VARIANT, closure, source_files
from aebench.paths import Layout

LAYOUT = Layout(ROOT)
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
FINGERPRINTS = LAYOUT.fingerprints.relative_to(ROOT).as_posix()
# The report bears the fingerprints of all stages.
FINGERPRINT = {
    **{stage: LAYOUT.fingerprint(stage) for stage in STAGES},
    **{stage: LAYOUT.fingerprint(stage, "${item.variant}") for stage in STAGES_OF_A_VARIANT},
    "report": LAYOUT.fingerprints,
}


def test_every_stage_with_results_has_a_fingerprint() -> None:
    assert set(FINGERPRINT) == set(PIPELINE) - {"check", "track"}
    assert all(PIPELINE[stage]["always_changed"] for stage in ("check", "track"))


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_depends_on_its_fingerprint_and_on_no_code(stage: str) -> None:
    dependencies = PIPELINE[stage].get("deps", [])
    code = {path for path in dependencies if path.startswith(("src", "stages", FINGERPRINTS))}
    assert code == {FINGERPRINT[stage].relative_to(ROOT).as_posix()} if stage in FINGERPRINT else code == set()


def test_what_the_check_writes_is_neither_deleted_before_nor_cached() -> None:
    kept = {"cache": False, "persist": True}
    outs = {name: settings for out in PIPELINE["check"]["outs"] for name, settings in out.items()}
    assert outs == {path.relative_to(ROOT).as_posix(): kept for path in (LAYOUT.fingerprints, LAYOUT.checked)}


@pytest.mark.parametrize("stage", [stage for stage in PIPELINE if stage != "check"])
def test_every_stage_waits_for_the_check(stage: str) -> None:
    assert LAYOUT.checked.relative_to(ROOT).as_posix() in PIPELINE[stage]["deps"]


def test_every_module_is_reached_by_a_stage() -> None:
    """Nothing lies in the package that the pipeline does not use, but for what checks its results."""
    named = {
        f"aebench.{'.'.join(folder)}.{path.stem}"
        for folder in (
            ("variants",),
            *(("models", part) for part in ("networks", "likelihoods", "priors", "posteriors", "objectives")),
            *(("training", part) for part in ("optimizers", "schedules", "stopping")),
        )
        for path in (ROOT / "src" / "aebench").joinpath(*folder).glob("*.py")
    }
    used = {path for stage in PIPELINE for path in closure(LAYOUT, stage)}
    used |= closure(LAYOUT, "train", *named)
    package = LAYOUT.source / "aebench"
    apart = {package / "evaluation" / "annealing.py"}
    assert not used & apart
    assert {*source_files(LAYOUT.source), *source_files(LAYOUT.stages)} == used | apart | {package / "__init__.py"}


def test_copies_of_the_project_hold_what_its_stages_need() -> None:
    """The script that copies it names what it copies."""
    outputs = (".aebench", "data", "runs", "evaluations", "reports")
    dependencies = {Path(path).parts[0] for stage in PIPELINE.values() for path in stage.get("deps", ())}
    assert dependencies - {*outputs} == {"constraints.txt", "datasets"}
    strings = {
        node.value
        for node in ast.walk(ast.parse((ROOT / "scripts" / "copies.py").read_text()))
        if isinstance(node, ast.Constant)
    }
    needed = {path.relative_to(ROOT).as_posix() for path in (LAYOUT.source, LAYOUT.stages, LAYOUT.pins)}
    assert needed | {"dvc.yaml", "datasets/README.md"} <= strings
