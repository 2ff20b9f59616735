"""check: params.yaml is in order. A bad value stops here, before DVC deletes any output of another stage."""

import _stage


def check() -> None:
    """Write the constant file on which every other stage depends."""
    _stage.params()
    checked = _stage.LAYOUT.checked
    checked.parent.mkdir(exist_ok=True)
    checked.write_text("params.yaml is in order.\n")


if __name__ == "__main__":
    _stage.run(check)
