"""A headless Chromium, driven over the DevTools protocol: for the gallery's tests and the benchmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
]


class Browser:
    """Just enough of the DevTools protocol over a pipe: JSON objects that end with NUL."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.rest = b""
        self.calls = 0
        self.requested: list[str] = []
        self.loads = 0
        self.target: dict[str, str] = {}

    def read(self) -> Any:
        """Return the next message of the browser, an answer or an event."""
        while b"\0" not in self.rest:
            chunk = os.read(self.from_browser, 1 << 16)
            assert chunk, "the browser is gone"
            self.rest += chunk
        raw, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(raw)
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        self.loads += message.get("method") == "Page.loadEventFired"
        return message

    def send(self, method: str, **params: Any) -> Any:
        """Return the answer to METHOD."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params, **self.target}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.calls:
            pass
        return answer

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of METHOD, or fail."""
        answer = self.send(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def go(self, page: Path) -> None:
        """Open PAGE and wait until it is loaded."""
        loads = self.loads
        self.call("Page.navigate", url=page.as_uri())
        while self.loads == loads:
            self.read()

    def run(self, script: str) -> Any:
        """Return the value of SCRIPT in the page, awaited, as if the user had acted."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def follow(self) -> None:
        """Let the page's own timer run out, which makes it look for a newer self, and wait for the answer."""
        took = "new Promise(done => addEventListener('message', () => done(true), {once: true}))"
        assert self.run(f"timers.at(-1)[0](), {took}")

    def key(self, name: str) -> None:
        """Press and release a key that is named as KeyboardEvent.key names it."""
        code = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}[name]
        text = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            press = {"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", **press, **text)
            text = {}

    def window(self, width: int, height: int) -> None:
        """Give the page a window of that size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)


def program() -> str | None:
    """Return the browser of this machine, None where there is none that inherited pipes can drive."""
    return None if sys.platform == "win32" else next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def started(home: Path) -> Iterator[Browser]:
    """Start the browser with a HOME of its own: a profile alone does not keep it from writing there."""
    path = program()
    assert path
    browser_in, to_browser = os.pipe()
    from_browser, browser_out = os.pipe()
    # The browser reads from 3 and writes to 4; the shell puts the pipes there.
    start = ["/bin/bash", "-c", f'exec "$@" 3<&{browser_in} 4>&{browser_out}', "-", path]
    process = subprocess.Popen(
        [*start, *FLAGS, f"--user-data-dir={home / 'profile'}", "about:blank"],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("XDG_")}, "HOME": str(home)},
        pass_fds=(browser_in, browser_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(browser_in)
    os.close(browser_out)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    browser = Browser(to_browser, from_browser)
    try:
        yield browser
    finally:
        with suppress(Exception):
            browser.call("Browser.close")
            process.wait(10)
        process.kill()
        process.wait()
        watchdog.cancel()
        os.close(to_browser)
        os.close(from_browser)


def new_page(browser: Browser) -> str:
    """Open a page of its own, on which the following calls act; return its id."""
    page: str = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
    browser.requested = []
    browser.target = {"sessionId": session}
    for domain in ("Network", "Page"):
        browser.call(f"{domain}.enable")
    return page
