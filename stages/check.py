"""check: params.yaml is in order, and no result is left of what it no longer names.

A bad value stops here, before DVC deletes any output of another stage.
"""

import _stage


def check() -> None:
    """Write the constant file on which every other stage depends."""
    params = _stage.params()
    from aebench.devices import available
    from aebench.pruning import prune

    available(params.device)
    prune(params, _stage.LAYOUT)
    _stage.write(_stage.LAYOUT.checked, "params.yaml is in order.\n")


if __name__ == "__main__":
    _stage.run(check)
