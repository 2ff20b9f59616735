"""Pages for readers: generated parts are up to date, links and commands exist, the rooms are drawn as they are."""

import importlib
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "datasets" / "README.md"]


@pytest.fixture
def readme(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("readme")


def test_generated_parts_are_those_of_the_results(readme: ModuleType) -> None:
    comparison = readme.tables((ROOT / "reports" / "comparison.md").read_text()).strip()
    benchmark = importlib.import_module("bench").table(json.loads((ROOT / "benchmarks" / "results.json").read_text()))
    (literature,) = map(str.strip, importlib.import_module("published").parts().values())
    for page, part in (("README.md", comparison), ("README.md", literature), ("docs/performance.md", benchmark)):
        assert ROOT / page in readme.PAGES
        text = (ROOT / page).read_text()
        assert part in text, "run `make readme`"
        assert readme.made(text) == text
        assert readme.made(text.replace(part, "| an older table |")) == text


def test_the_readme_has_all_of_the_comparison_but_the_findings(readme: ModuleType) -> None:
    table, notes = "### NAME\n\n| | MSE |\n| --- | ---: |\n| **ae** | 1 [1] |\n", "Notes\n\n- Test split.\n- [1] why.\n"
    of_one = f"{table}\n- MSE: ae better than vae.\n- **Caution.** It is loose.\n\n{notes}"
    for names in (["digits"], ["digits", "fashion_mnist"]):
        comparison = "\n".join(of_one.replace("NAME", name) for name in names)
        assert readme.tables(comparison) == "\n".join(f"{table}\n{notes}".replace("NAME", name) for name in names)


def test_the_tables_of_the_literature_are_those_of_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    published = importlib.import_module("published")
    page = (ROOT / "published" / "README.md").read_text()
    assert published.page(published.tables()) == page


def test_verdicts_at_a_budget_are_set_beside_those_of_converged_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each pair counts once: held, turned round, lost, new, open in both, or not compared at all."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    verdicts = importlib.import_module("verdicts")
    pairs = [
        *[("elbo_nats", "ae", "vae", "vae", "vae", None), ("elbo_nats", "ae", "cvae", "cvae", "ae", None)],
        *[("elbo_nats", "vae", "cvae", "cvae", None, None), ("elbo_nats", "dae", "vae", "vae", "vae", None)],
        *[
            ("reconstruction_mse", "ae", "vae", None, "ae", None),
            ("reconstruction_mse", "ae", "cvae", None, None, None),
        ],
        ("reconstruction_mse", "vae", "cvae", None, None, "has no likelihood"),
        ("iw_log_likelihood_given_label_nats", "cvae", "mine", "mine", None, None),
    ]
    columns = ["metric", "a", "b", "before", "after", "not_defined"]
    rows = pd.DataFrame(pairs, columns=columns).assign(dataset="digits")
    before, after = (with_numbers(rows, rows[name]) for name in ("before", "after"))
    found = verdicts.compared(before, after.iloc[::-1])  # in any order
    assert found["what"].tolist() == ["hold", "turn round", "lost", "hold", "new", "open", "lost"]
    assert verdicts.sentence(found) == (
        "Of the 5 verdicts of the default comparison, 2 hold there too. No longer significant: 2. "
        "Turned round: 1 (cvae > ae in ELBO)."
    )
    assert verdicts.table(found).splitlines()[2:] == [
        "| ELBO | vae > ae, dae | cvae > ae | cvae > vae |  |",
        "| reconstruction MSE |  |  |  | ae > vae |",
        r"| log p̂(x\|y) |  |  | mine > cvae |  |",
    ]
    # A user's own data sets and variants were never converged here: the pages stay as they are.
    other = tmp_path / "pairs.csv"
    before.assign(dataset="mine").to_csv(other, index=False)
    for place in ("OURS", "CONVERGED"):
        with monkeypatch.context() as changed:
            changed.setattr(verdicts, place, other)
            assert verdicts.parts() == {}
    monkeypatch.setattr(verdicts, "CONVERGED", tmp_path / "missing.csv")
    assert verdicts.parts() == {}


def with_numbers(rows: pd.DataFrame, winners: "pd.Series[str]") -> pd.DataFrame:
    """Rows of pairs.csv in which `winners` are better, and nobody where there is none."""
    sign = np.where(rows["metric"] == "reconstruction_mse", -1, 1) * np.where(winners == rows["a"], 1, -1)
    p = pd.Series(np.where(winners.notna(), 1e-6, 0.9), rows.index).where(rows["not_defined"].isna())
    return rows[["dataset", "metric", "a", "b", "not_defined"]].assign(difference=sign, p=p, bound_gap=np.nan)


def test_verdicts_are_corrected_for_the_pairs_that_both_benchmarks_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a difference within the bounds' gap is none."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    verdicts = importlib.import_module("verdicts")
    of_three = pd.DataFrame([("a", "b", 0.02), ("a", "c", 0.03), ("b", "c", 0.9)], columns=["a", "b", "p"])
    ours = of_three.assign(dataset="digits", metric="elbo_nats", difference=1.0, bound_gap=np.nan)
    assert verdicts.compared(ours, ours)["what"].tolist() == ["open"] * 3  # 3 · 0.02 is above 0.05
    assert verdicts.compared(ours, ours[:2])["what"].tolist() == ["hold"] * 2  # 2 · 0.02 and 0.03 are not
    assert verdicts.compared(ours, ours[:1].assign(bound_gap=1.5))["what"].tolist() == ["lost"]


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page: small letters, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ +(.+?)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"there is no {target}"
        assert not anchor or anchor in anchors(path), f"there is no {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page: Path) -> None:
    """Each `make TARGET`, and each script that a page calls."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"repro", "test"} <= targets
    text = page.read_text()
    # In a block of code at the start of a line or after another command, in prose in backticks.
    called = re.findall(r"(?:`|^|&& |[A-Z_]+=\S+ )make ([a-z-]+)", text, re.MULTILINE)
    assert set(called) <= targets
    assert "make repro" not in text or "repro" in called
    for script in re.findall(r"\bpython3? ((?:\w+/)+\w+\.py)", text):
        assert (ROOT / script).is_file(), script


def test_the_drawing_of_the_rooms_is_that_of_the_imports() -> None:
    """CONTRIBUTING.md draws the layers that import-linter keeps to, a row of its box for each, in their order."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    drawn = re.findall(r"^│ ([\w ·]+?) +│", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert [row.split(" · ") for row in drawn] == [layer.split(" | ") for layer in layers]
