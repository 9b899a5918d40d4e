"""Headless Chromium (over DevTools) and Firefox (over WebDriver BiDi), to do what a person does."""

import json
import os
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
    "chromium": "--headless=new --no-sandbox --remote-debugging-port=0 --user-data-dir={}",
    "firefox": "--headless --no-remote --remote-debugging-port=0 --profile {}",
}
KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
LOADED = "new Promise(done => document.readyState == 'complete' ? done() : (onload = done))"
CENTRE = """(box => [box.x + box.width / 2, box.y + box.height / 2])(
    (e => (e.scrollIntoView({block: "nearest"}), e.getBoundingClientRect()))(%s))"""


def program(name: str) -> str | None:
    """Return the path of this browser, None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


class Browser:
    """One page of a browser; `events` are those since the page was opened."""

    def __init__(self, name: str, address: str) -> None:
        self.is_firefox = name == "firefox"
        self.events: list[dict[str, Any]] = []
        self.calls, self.session = 0, {}
        host, _, path = (address + "/session" * self.is_firefox)[len("ws://") :].partition("/")
        with socket.create_connection(("127.0.0.1", int(host.split(":")[1])), timeout=60) as link:
            self.stream = link.makefile("rwb")
        head = f"GET /{path} HTTP/1.1\nHost: {host}\nConnection: Upgrade\nUpgrade: websocket\n"
        head += f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: {'A' * 22}==\n\n"
        self.stream.write(head.replace("\n", "\r\n").encode())
        self.stream.flush()
        while self.stream.readline().strip():
            pass
        if self.is_firefox:
            self.call("session.new", capabilities={})
            self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
            self.page = {"context": self.call("browsingContext.create", type="tab")["context"]}
            return
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)
        for domain in ("Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of METHOD, or fail."""
        self.calls += 1
        call = {"id": self.calls, "method": method, "params": params, **self.session}
        text = json.dumps(call).ljust(126).encode()  # a length above 125 is two bytes
        size = bytes([254, *divmod(len(text), 256)])
        self.stream.write(b"\x81" + size + b"\1\1\1\1" + bytes(byte ^ 1 for byte in text))
        self.stream.flush()
        while True:
            length = self.stream.read(2)[1]
            if length > 125:
                length = int.from_bytes(self.stream.read(2 if length == 126 else 8), "big")
            message = json.loads(self.stream.read(length))
            if message.get("id") == self.calls:
                assert "result" in message, message
                return message["result"]
            self.events.append(message)

    def go(self, page: Path, width: int = 1280, height: int = 800) -> None:
        """Open PAGE in a window of that size, in CSS pixels; wait until it is loaded."""
        size = {"width": width, "height": height}
        self.events.clear()
        if self.is_firefox:
            self.call("browsingContext.setViewport", **self.page, viewport=size)
            self.call("browsingContext.navigate", **self.page, url=page.as_uri())
        else:
            size |= {"deviceScaleFactor": 1, "mobile": False}
            self.call("Emulation.setDeviceMetricsOverride", **size)
            self.call("Page.navigate", url=page.as_uri())
        self.run(LOADED)

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page, awaited."""
        code = f"Promise.resolve(({expression})).then(value => JSON.stringify(value ?? null))"
        how = {"expression": code, "awaitPromise": True}
        if self.is_firefox:
            answer = self.call("script.evaluate", **how, target=self.page, userActivation=True)
        else:
            answer = self.call("Runtime.evaluate", **how, userGesture=True)
        assert "exceptionDetails" not in answer, answer
        return json.loads(answer["result"]["value"])

    def click(self, element: str) -> None:
        """Click on an element, a JavaScript expression; in Chromium with the mouse."""
        x, y = self.run(f"{element}.click(), [0, 0]" if self.is_firefox else CENTRE % element)
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in () if self.is_firefox else ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, key: str) -> None:
        if self.is_firefox:
            value = dict(zip(KEYS, "\ue007\ue00c\ue012\ue014", strict=True))[key]
            steps = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
            keys = {"type": "key", "id": "keyboard", "actions": steps}
            self.call("input.performActions", **self.page, actions=[keys])
        for kind in () if self.is_firefox else ("keyDown", "keyUp"):
            text = {"key": key, "text": "\r" if key == "Enter" else ""}
            self.call("Input.dispatchKeyEvent", type=kind, windowsVirtualKeyCode=KEYS[key], **text)


@contextmanager
def started(name: str, home: Path) -> Iterator[Browser]:
    """Start a browser with a HOME of its own, so that it writes nowhere else."""
    command = [program(name) or name, *FLAGS[name].format(home).split()]
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        address = next(line.split()[-1] for line in process.stderr if "listening on ws:" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe is full
        browser = Browser(name, address)
        try:
            yield browser
        finally:
            browser.stream.close()
            process.terminate()
