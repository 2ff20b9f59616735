"""The parts of README.md that are made from results: the comparison and the benchmark, each between two marks."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
sys.path.insert(0, str(ROOT / "benchmarks"))


def made(text: str) -> str:
    """`text` of the README with these parts made anew from the files that their marks name; without marks as it is."""
    from bench import table

    comparison = (ROOT / "reports" / "comparison.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    for name, content in (("reports/comparison.md", comparison), ("benchmarks/results.json", table(results))):
        part = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
        inside = f"\n{content.strip()}\n".replace("\\", r"\\")
        text = part.sub(rf"\1{inside}\2", text)
    return text


def main() -> None:
    """Write it where something has changed."""
    before = README.read_text(encoding="utf-8")
    after = made(before)
    if after != before:
        README.write_text(after, encoding="utf-8")
        print("README.md: made anew from reports/comparison.md and benchmarks/results.json", file=sys.stderr)


if __name__ == "__main__":
    main()
