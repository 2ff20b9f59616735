"""check: params.yaml is in order, and no result is left of what it no longer names.

A bad value stops here, before DVC deletes any output of another stage.
"""

import shutil

import _stage


def check() -> None:
    """Write the constant file on which every other stage depends."""
    params, layout = _stage.params(), _stage.LAYOUT
    for path in layout.left_over(params.datasets, params.variants):
        # DVC's cache still has them: a variant that returns to params.yaml is not trained again.
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    checked = layout.checked
    checked.parent.mkdir(exist_ok=True)
    checked.write_text("params.yaml is in order.\n")


if __name__ == "__main__":
    _stage.run(check)
