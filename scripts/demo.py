"""The whole pipeline on scikit-learn's digits, in demo/: a copy of the code with small parameters of its own."""

import sys

import copies

DEMO = copies.ROOT / "demo"


def main() -> None:
    """Run what an earlier demo left out of date."""
    copies.make(DEMO, (copies.ROOT / "settings" / "demo.yaml").read_text("utf-8"))
    if not copies.repro(DEMO):
        sys.exit(1)
    print(f"\nOpen {DEMO / 'reports' / 'index.html'}")


if __name__ == "__main__":
    copies.finish(main)
