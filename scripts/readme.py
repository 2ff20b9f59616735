"""The parts of README.md and of some docs that are made from results, each between two marks."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "budget.md")
sys.path.insert(0, str(ROOT / "benchmarks"))


def made(text: str) -> str:
    """The text of a page with its marked parts made anew from the files that the marks name; without marks as it is."""
    import verdicts
    from bench import table

    import published

    comparison = (ROOT / "reports" / "comparison.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    parts = {"reports/comparison.md": tables(comparison), "benchmarks/results.json": table(results)}
    parts |= verdicts.parts() | published.parts()
    for name, content in parts.items():
        part = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
        inside = f"\n{content.strip()}\n".replace("\\", r"\\")
        text = part.sub(rf"\1{inside}\2", text)
    return text


def tables(comparison: str) -> str:
    """The comparison without its findings, the lists between each table and its notes."""
    return re.sub(r"(?:^- .*\n)+\n(?=Notes$)", "", comparison, flags=re.MULTILINE)


def main() -> None:
    """Write the pages in which something has changed."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = made(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: made anew from the results", file=sys.stderr)


if __name__ == "__main__":
    main()
