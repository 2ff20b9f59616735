import importlib
import json
import re

import pytest
from conftest import ROOT


def test_the_readme_shows_the_committed_comparison() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"<!-- reports/comparison.md -->\n(.*?)<!-- end -->", readme, re.DOTALL)
    assert shown
    assert shown[1].strip() == (ROOT / "reports" / "comparison.md").read_text().strip()


def test_the_readme_shows_the_committed_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    table = importlib.import_module("bench").table
    shown = re.search(r"<!-- benchmarks/results.json -->\n(.*?)<!-- end", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    assert shown[1].strip() == table(json.loads((ROOT / "benchmarks" / "results.json").read_text()))


def test_its_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_metric_is_defined() -> None:
    from aebench.reporting.tables import COLUMNS

    defined = (ROOT / "docs" / "metrics.md").read_text()
    for metric in COLUMNS:
        assert f"`{metric}`" in defined
