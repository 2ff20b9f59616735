"""The report in a real browser, without a window."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).with_name("probe.js")


def visit(page: Path, scratch: Path, width: int) -> dict[str, Any]:
    """What probe.js finds on the page in a window of this width; its copy in `scratch` is what is opened."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium and no google-chrome is installed")
    watch = "<script>window.problems = []; onerror = (message) => problems.push(message);</script>"
    watched = page.read_text().replace("<head>", f"<head>{watch}", 1).replace('loading="lazy"', "")
    copy = scratch / "page.html"
    copy.write_text(watched.replace("</body>", f"<script>{PROBE.read_text()}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={scratch / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=10000"]
    done = subprocess.run(
        [browser, *options, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    title = re.search(r"<title>found (.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stdout[:300]
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    return found
