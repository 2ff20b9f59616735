"""MLflow's UI as a visitor sees it.

`python tests/mlflow_ui.py http://127.0.0.1:5000 1` takes the pictures of docs/mlflow.md, of experiment 1.
"""

import sys
import tempfile
from pathlib import Path

from devtools import Page, page

PICTURES = {"runs": "variants", "parallel-coordinates": "parallel", "curves": "curves"}
# What is there as soon as a view's charts are drawn.
DRAWN = {
    "parallel": "/Parallel Coordinates/.test(document.body.innerText) && !!document.querySelector('canvas')",
    "curves": "!!document.querySelector('.scatterlayer .trace')",
}
CLOSE = "[...document.querySelectorAll('button')].filter((e) => /close/i.test(e.ariaLabel ?? '')).pop()"


def show(tab: Page, server: str, experiment: str, view: str) -> None:
    """Open one of the experiment's views, and wait until it stands still."""
    mode = "&compareRunsMode=CHART" if view in DRAWN else ""
    address = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning{mode}"
    tab.open(f"{address}&viewStateShareKey=aebench-{view}")
    tab.wait("/matching runs/.test(document.body.innerText)")
    tab.wait(DRAWN.get(view, "true"))
    tab.rest()


def take(server: str, experiment: str, folder: Path) -> None:
    """Write a picture of each view into `folder`."""
    from io import BytesIO

    from PIL import Image

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, page(Path(scratch)) as tab:
        tab.size(1560, 860)
        show(tab, server, experiment, "variants")
        tab.click(CLOSE)  # the panel of the assistant, which opens at the first visit
        for name, view in PICTURES.items():
            show(tab, server, experiment, view)
            path = folder / f"mlflow-{name}.png"
            tab.picture(path)
            image = Image.open(BytesIO(path.read_bytes())).convert("RGB").quantize(128, dither=Image.Dither.NONE)
            image.save(path, optimize=True)


if __name__ == "__main__":
    take(sys.argv[1], sys.argv[2], Path(__file__).parents[1] / "docs" / "pictures")
