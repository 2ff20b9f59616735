"""Removes what is left of cells that params.yaml no longer names: results that the report would read, lock entries.

DVC's cache still has the results, so a variant that returns to params.yaml is not trained again.
"""

import re
from pathlib import Path

from aebench.config import Params
from aebench.paths import Layout, remove, write


def prune(params: Params, layout: Layout) -> None:
    """Remove the results of each data set and variant that `params` does not name, and their entries in dvc.lock.

    Raises:
        FileError: the checkout may not be written to.
    """
    for path in sorted(set(_results(layout)) - _wanted(params, layout)):
        remove(path)
    if layout.lock.is_file():
        text = layout.lock.read_text(encoding="utf-8")
        pruned = _lock(text, params)
        if pruned != text:
            write(layout.lock, pruned)


def _results(layout: Layout) -> list[Path]:
    patterns = ("runs/*/*", "evaluations/*/*", "reports/metrics/*/*.json", "reports/baselines/*.json")
    unnamed = []
    for pattern in patterns:
        top = (layout.root / pattern.partition("/*")[0]).resolve()
        # What a link leads to outside of the results' folder is not ours to remove.
        paths = (path for path in layout.root.glob(pattern) if path.parent.resolve().is_relative_to(top))
        unnamed += [path for path in paths if path.name != ".gitignore"]
    return unnamed


def _wanted(params: Params, layout: Layout) -> set[Path]:
    wanted = set()
    for dataset in params.datasets:
        wanted |= {layout.baseline(dataset), layout.baseline_values(dataset)}
        for variant in params.variants:
            wanted |= {layout.runs(dataset, variant), layout.evaluations(dataset, variant)}
            wanted.add(layout.metrics(dataset, variant))
    return wanted


def _lock(text: str, params: Params) -> str:
    """dvc.lock without the stages of cells that are not named; DVC itself never removes one."""
    cells = {f"{dataset}-{variant}" for dataset in params.datasets for variant in params.variants}
    kept, keep = [], True
    for line in text.splitlines(keepends=True):
        if stage := re.match(r"  (\w+)@?(\S*):", line):  # the stages stand two spaces deep, what is theirs deeper
            keep = not stage[2] or stage[2] in cells or stage[2] in params.datasets
        kept.append(line if keep else "")
    return "".join(kept)
