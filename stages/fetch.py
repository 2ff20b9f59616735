"""fetch DATASET: raw files from the first source that has them, to data/DATASET.safetensors."""

import sys
from pathlib import Path

import _stage


def fetch(dataset: str) -> None:
    """Fetch one data set."""
    params = _stage.cell(dataset)
    from aebench.data import datasets

    _stage.code()
    source = params.execution.source_dir
    content = datasets.fetch(
        dataset,
        _stage.LAYOUT.raw,
        _stage.ROOT / Path(source).expanduser() if source else None,
        lambda line: print(f"{dataset}: {line}", file=sys.stderr),
        _stage.LAYOUT.datasets,
    )
    datasets.load(content, dataset, params.data)  # what no run could use stops here
    _stage.write(_stage.LAYOUT.data(dataset), content)


if __name__ == "__main__":
    _stage.run(fetch)
