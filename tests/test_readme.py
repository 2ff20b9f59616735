import importlib
import json
import re

import pytest
from conftest import ROOT


def test_its_generated_parts_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    readme = importlib.import_module("readme")
    text = (ROOT / "README.md").read_text()
    assert readme.made(text) == text, "run `make readme`"
    comparison = (ROOT / "reports" / "comparison.md").read_text().strip()
    benchmark = importlib.import_module("bench").table(json.loads((ROOT / "benchmarks" / "results.json").read_text()))
    for part in (comparison, benchmark):
        assert part in text
        assert readme.made(text.replace(part, "| an older table |")) == text


def test_its_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
