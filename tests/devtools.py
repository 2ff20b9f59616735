"""A page in headless Chromium, driven over the DevTools protocol: open, wait, click, look, see what it asks for."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
LOCAL = ("127.0.0.1", "")  # an address without a host, such as data: or blob:, stays in the page
# The browser takes its orders on descriptor 3 and answers on 4.
BECOME = """
import os, sys
for old, new in ((int(sys.argv[1]), 103), (int(sys.argv[2]), 104), (103, 3), (104, 4)):
    os.dup2(old, new)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 180.0  # seconds for what is waited for, on a machine with much else to do


def browser() -> str | None:
    """The installed browser, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """One tab. `errors`: uncaught exceptions and messages of errors; `requests`: every address that was asked for.

    A request that would leave the machine is stopped, and stands in `requests`.
    """

    def __init__(self, to: int, out: int) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._to, self._out = to, out
        self._held = b""
        self._awaited: set[str] = set()
        self._number = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Fetch"):
            self._call(f"{domain}.enable")
        # Its workers ask for things as well.
        self._call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def _send(self, method: str, session: str | None = None, **params: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session or self._session:
            message["sessionId"] = session or self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = self._send(method, **params)
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self._read(deadline)
            assert message is not None, f"{method}: no answer"
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message.get('error')}"
                result: dict[str, Any] = message["result"]
                return result

    def _read(self, deadline: float) -> dict[str, Any] | None:
        """The next message, its event taken note of; None where none comes in time."""
        while b"\0" not in self._held:
            if not select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            part = os.read(self._out, 1 << 20)
            assert part, "the browser is gone"
            self._held += part
        text, self._held = self._held.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._notice(message.get("method", ""), message.get("params", {}), message.get("sessionId"))
        return message

    def _notice(self, event: str, params: dict[str, Any], session: str | None) -> None:
        if event == "Fetch.requestPaused":
            url = params["request"]["url"]
            self.requests.append(url)
            if (urlsplit(url).hostname or "") in LOCAL:
                self._send("Fetch.continueRequest", session, requestId=params["requestId"])
            else:
                self._send("Fetch.failRequest", session, requestId=params["requestId"], errorReason="BlockedByClient")
        elif event == "Target.attachedToTarget":
            for order in ("Fetch.enable", "Runtime.runIfWaitingForDebugger"):
                self._send(order, params["sessionId"])
        elif event == "Network.requestWillBeSent":
            if not params["request"]["url"].endswith(".worker.js"):  # only the worker is told when that has come
                self._awaited.add(params["requestId"])
        elif event in ("Network.loadingFinished", "Network.loadingFailed"):
            self._awaited.discard(params["requestId"])
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(" ".join(str(one.get("value", one.get("description", ""))) for one in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    @property
    def strangers(self) -> list[str]:
        """What was asked for elsewhere than on this machine."""
        return [url for url in self.requests if (urlsplit(url).hostname or "") not in LOCAL]

    def size(self, width: int, height: int) -> None:
        """Make the window this large, in pixels."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url: str) -> None:
        """Go to `url`; what it shows comes later."""
        self._awaited.clear()
        self._call("Page.navigate", url="about:blank")  # so that an address that differs in its hash alone is loaded
        self._call("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = PATIENCE) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.ask(f"document.body && ({expression})")):
            assert time.monotonic() < deadline, f"{expression} never came true; the page shows:\n{self.text()[:2000]}"
            self._read(time.monotonic() + 0.1)
        return value

    def rest(self, seconds: float = 1.0) -> None:
        """Wait until the page has asked for nothing for so long, and has all its answers."""
        deadline = time.monotonic() + PATIENCE
        asked, quiet_since = len(self.requests), time.monotonic()
        while time.monotonic() - quiet_since < seconds:
            assert time.monotonic() < deadline, f"unanswered: {self._awaited}"
            self._read(time.monotonic() + 0.1)
            if self._awaited or len(self.requests) != asked:
                asked, quiet_since = len(self.requests), time.monotonic()

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.ask("document.body.innerText"))

    def click(self, expression: str) -> None:
        """Press the mouse in the middle of the element that a JavaScript expression gives, once it is there."""
        self.wait(f"!!({expression})")
        x, y = self.ask(
            f"(() => {{ const e = {expression}; e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.press(x, y)

    def press(self, x: float, y: float) -> None:
        """Press the mouse at a point of the window."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def page(scratch: Path) -> Iterator[Page]:
    """A tab of a browser of its own, whose profile lies in `scratch`."""
    program = browser()
    assert program
    reads, to = os.pipe()
    out, writes = os.pipe()
    running = subprocess.Popen(
        [
            sys.executable,
            "-c",
            BECOME,
            str(reads),
            str(writes),
            program,
            *OPTIONS,
            f"--user-data-dir={scratch / 'profile'}",
        ],
        pass_fds=(reads, writes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(reads)
    os.close(writes)
    try:
        yield Page(to, out)
    finally:
        os.close(to)  # upon which the browser ends
        os.close(out)
        running.terminate()
        running.wait()


def text_is(words: str, tag: str = "*") -> str:
    """JavaScript for the innermost visible element of this tag whose whole text is `words`."""
    return (
        f"[...document.querySelectorAll({json.dumps(tag)})].filter((e) => e.innerText?.trim() === {json.dumps(words)}"
        " && e.getBoundingClientRect().width).pop()"
    )
