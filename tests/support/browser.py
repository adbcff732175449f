"""A real browser without a window: Chromium, driven over a pipe by its DevTools protocol.

Nothing is needed but the browser itself: no driver, no package. What it logs, what it requests and
what goes wrong in a page's scripts is collected.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 20.0


def find_browser() -> str | None:
    """The program, or None: BRAZE_CHROMIUM, or one of the usual names."""
    named = os.environ.get("BRAZE_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserError(AssertionError):
    """The browser, or a script in the page, failed."""


class Browser:
    """One browser with one page.

    Attributes:
        requests: addresses that the page asked for since `open`, itself apart.
        errors: what scripts raised, and what was logged as a warning or an error.
    """

    def __init__(self, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        program = find_browser()
        assert program is not None, "there is no Chromium"
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = [program, *OPTIONS, f"--user-data-dir={self._folder.name}", "about:blank"]

        def connect() -> None:
            # The protocol's ends are descriptors 3 and 4.
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            command, pass_fds=(to_read, to_write, 3, 4), preexec_fn=connect,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session = ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._address = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path) -> float:
        """Load a page and wait until it says that it is ready; milliseconds since its beginning."""
        self._address = file.resolve().as_uri()
        # Else the page that is left may answer.
        self._call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.requests.clear()
        self.errors.clear()
        self._call("Page.navigate", url=self._address)
        self.wait("document.documentElement.dataset.ready")
        return float(self.evaluate("document.documentElement.dataset.ready"))

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, awaited.  Raises: BrowserError."""
        done = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise BrowserError(f"{script}: {_text(done['exceptionDetails'])}")
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true.  Raises: BrowserError."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if self.evaluate(f"Boolean({condition})"):
                    return
            except BrowserError:  # the page has just been left
                pass
            time.sleep(0.02)
        raise BrowserError(f"still not true: {condition}; {self.errors}")

    def click(self, selector: str) -> None:
        """Click where an element is, with the mouse."""
        place = self.evaluate(
            f"""(() => {{
                const node = document.querySelector({json.dumps(selector)});
                if (!node) return null;
                node.scrollIntoView({{block: "center", inline: "nearest"}});
                const box = node.getBoundingClientRect();
                return [box.left + Math.min(box.width / 2, 40), box.top + Math.min(box.height / 2, 14)];
            }})()"""  # noqa: E501
        )
        if place is None:
            raise BrowserError(f"nothing is {selector}")
        at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, key: str) -> None:
        """A key: "Enter", "ArrowDown", "Escape", or a character."""
        codes = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}
        facts: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0]))}
        if key not in codes:
            facts["text"] = key
        self._call("Input.dispatchKeyEvent", type="keyDown", **facts)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def screenshot(self, file: Path) -> None:
        """Write what is seen as a PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser."""
        try:
            self._session = ""
            self._call("Browser.close")
        except (BrowserError, OSError):
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()

    # The protocol ---------------------------------------------------------------------------------

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._notice(answer)

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], PATIENCE)[0]:
                raise BrowserError("the browser does not answer")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise BrowserError("the browser has ended")
            self._buffer += data
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def _notice(self, event: Any) -> None:
        method, facts = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(_text(facts["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.errors.append(str([a.get("value") for a in facts["args"]]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.errors.append(facts["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = facts["request"]["url"]
            if url.partition("#")[0] not in (self._address, "about:blank") and url[:5] != "data:":
                self.requests.append(url)


def _text(details: Any) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
