"""Headless Chromium (over DevTools) and Firefox (over WebDriver BiDi), to do what a person does."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = {"chromium": ("chromium", "google-chrome"), "firefox": ("firefox", "firefox-esr")}
FLAGS = {
    "chromium": "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-"
    "background-networking --disable-component-update --user-data-dir={} about:blank",
    "firefox": "--headless --no-remote --profile {}",
}
CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
BIDI_KEYS = dict(zip(CODES, "\ue004\ue007\ue00c\ue012\ue014", strict=True))
CENTRE = """(box => [box.x + box.width / 2, box.y + box.height / 2].map(Math.floor))(
    (e => (e.scrollIntoView({block: "nearest"}), e.getBoundingClientRect()))(%s))"""


def program(name: str) -> str | None:
    """Return the path of this browser, None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


class Browser:
    """One page of a browser, over a WebSocket."""

    def __init__(self, name: str, address: str) -> None:
        self.is_firefox = name == "firefox"
        self.events: list[dict[str, Any]] = []  # since the page was opened
        self.calls = 0
        self.connect(address + "/session" * self.is_firefox)
        if self.is_firefox:
            self.call("session.new", capabilities={})
            self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
            page = self.call("browsingContext.create", type="tab")["context"]
            self.page = {"context": page}
        else:
            page = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.connect(re.sub("/browser/.*", f"/page/{page}", address))
            for domain in ("Page", "Network", "Log", "Runtime"):
                self.call(f"{domain}.enable")

    def connect(self, address: str) -> None:
        """Open a WebSocket: it answers the handshake with a head, then frames."""
        host, path = address.removeprefix("ws://").split("/", 1)
        self.socket = socket.create_connection(("127.0.0.1", int(host.split(":")[1])), 60)
        head = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
        head += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        self.socket.sendall(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass

    def read(self) -> dict[str, Any]:
        """Return the next message, an answer or an event."""
        size = self.stream.read(2)[1]
        if size > 125:
            size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
        message: dict[str, Any] = json.loads(self.stream.read(size))
        self.events += [message] if "method" in message else []
        return message

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of METHOD, or fail."""
        self.calls += 1
        text = json.dumps({"id": self.calls, "method": method, "params": params}).encode()
        length = bytes([254, *divmod(len(text), 256)]) if len(text) > 125 else bytes([128 + len(text)])
        self.socket.sendall(b"\x81" + length + b"\1\1\1\1" + bytes(byte ^ 1 for byte in text))
        while (answer := self.read()).get("id") != self.calls:
            pass
        assert "result" in answer, answer
        return answer["result"]

    def happened(self, *methods: str) -> list[Any]:
        """Return what these events said."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def go(self, page: Path, width: int = 1280, height: int = 800) -> None:
        """Open PAGE in a window of that size, in CSS pixels; wait until it is loaded."""
        size = {"width": width, "height": height}
        self.events.clear()
        if self.is_firefox:
            self.call("browsingContext.setViewport", **self.page, viewport=size)
            self.call("browsingContext.navigate", **self.page, url=page.as_uri(), wait="complete")
            return
        screen = {"deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size, **screen)
        self.call("Page.navigate", url=page.as_uri())
        while not self.happened("Page.loadEventFired"):
            self.read()

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page, awaited."""
        code = {"expression": f"Promise.resolve({expression}).then(v => JSON.stringify(v ?? null))"}
        if self.is_firefox:
            how = {"target": self.page, "awaitPromise": True, "userActivation": True}
            answer = self.call("script.evaluate", **code, **how)
        else:
            answer = self.call("Runtime.evaluate", **code, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer
        return json.loads(answer["result"]["value"])

    def click(self, element: str) -> None:
        """Click on the middle of an element, a JavaScript expression."""
        if self.is_firefox:
            self.run(f"{element}.click()")
            return
        x, y = self.run(CENTRE % element)
        for kind in ("mousePressed", "mouseReleased"):
            at = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, *keys: str) -> None:
        """Press keys of CODES, or characters, one after the other."""
        for key in keys:
            if self.is_firefox:
                steps = [
                    {"type": t, "value": BIDI_KEYS.get(key, key)} for t in ("keyDown", "keyUp")
                ]
                device = {"type": "key", "id": "keyboard", "actions": steps}
                self.call("input.performActions", **self.page, actions=[device])
                continue
            text = "\r" if key == "Enter" else "" if key in CODES else key
            for event in ({"type": "keyDown", "text": text}, {"type": "keyUp"}):
                code = CODES.get(key, 0)
                self.call("Input.dispatchKeyEvent", **event, key=key, windowsVirtualKeyCode=code)


@contextmanager
def started(name: str, home: Path) -> Iterator[Browser]:
    """Start a browser with a HOME of its own, so that it writes nowhere else."""
    command = [
        program(name) or name,
        "--remote-debugging-port=0",
        *FLAGS[name].format(home).split(),
    ]
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            said = iter(process.stderr.readline, "")
            address = next(line.split()[-1] for line in said if " listening on ws:" in line)
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or its pipe is full
            yield Browser(name, address)
        finally:
            process.terminate()
