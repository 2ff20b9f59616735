"""The report in a real browser, without a window."""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from devtools import browser
from devtools import page as devtools_page

PROBE = Path(__file__).with_name("probe.js")


# A page that asks for anything from elsewhere does not get it.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--virtual-time-budget=10000", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


def visit(page: Path, scratch: Path, width: int) -> dict[str, Any]:
    """What probe.js finds on the page in a window of exactly this width; its copy in `scratch` is what is opened."""
    if browser() is None:
        pytest.skip("no chromium and no google-chrome is installed")
    watch = "<script>window.problems = []; onerror = (message) => problems.push(message);</script>"
    watched = page.read_text().replace("<head>", f"<head>{watch}", 1).replace('loading="lazy"', "")
    copy = scratch / "page.html"
    copy.write_text(watched.replace("</body>", f"<script>{PROBE.read_text()}</script></body>"))
    # An option of the browser's could not make its window as narrow as a phone.
    with devtools_page(scratch) as tab:
        tab.size(width, 900)
        tab.open(copy.as_uri())
        found: dict[str, Any] = json.loads(tab.wait("document.title.startsWith('found ') && document.title.slice(6)"))
    return found


def open_page(page: Path, scratch: Path, question: str) -> dict[str, Any]:
    """The value of a JavaScript expression on a page, once it has loaded; a copy beside the page is what is opened."""
    answer = f"document.title = 'found ' + JSON.stringify({question})"
    script = f"addEventListener('load', () => setTimeout(() => {answer}, 2000))"
    copy = page.with_name("opened.html")
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    return _found(copy, scratch)


def _found(page: Path, scratch: Path) -> dict[str, Any]:
    program = browser()
    if program is None:
        pytest.skip("no chromium and no google-chrome is installed")
    options = [*OPTIONS, f"--user-data-dir={scratch / 'profile'}", "--window-size=1300,900"]
    done = subprocess.run(
        [program, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    title = re.search(r"<title>found (.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stdout[:300]
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    return found
