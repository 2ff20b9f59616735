"""The parts of README.md and of some docs that are made from results, each between two marks."""

import json
import re
import sys
from functools import cache

import copies

ROOT = copies.ROOT
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "budget.md")
sys.path.insert(0, str(ROOT / "benchmarks"))


@cache
def parts() -> dict[str, str]:
    """What stands between the marks, by their names."""
    import verdicts
    from bench import table

    import published

    comparison = (ROOT / "reports" / "comparison.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    of_files = {"reports/comparison.md": tables(comparison), "benchmarks/results.json": table(results)}
    return of_files | verdicts.parts() | published.parts()


def made(text: str) -> str:
    """The text of a page with its marked parts made anew from the results; without marks as it is."""
    for name, content in parts().items():
        part = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
        inside = f"\n{content.strip()}\n".replace("\\", r"\\")
        text = part.sub(rf"\1{inside}\2", text)
    return text


def tables(comparison: str) -> str:
    """The comparison without its findings, the lists between each table and its notes."""
    return re.sub(r"(?:^- .*\n)+\n(?=Notes$)", "", comparison, flags=re.MULTILINE)


def main() -> None:
    """Write the pages in which something has changed.

    Raises:
        UserError: a table of the literature is not in order.
    """
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = made(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: made anew from the results", file=sys.stderr)


if __name__ == "__main__":
    copies.finish(main)
