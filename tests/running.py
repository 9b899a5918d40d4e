"""Runs a script as a process and checks what every run promises: streams, exit code, files."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

import forked
from painting import encoded, paint
from sandbox import Sandbox, padded

SMALL = encoded(paint("small --ar 4:1", "0", 1).resize((160, 40)).quantize(16))
JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
NEVER = 1e6  # seconds: a job ends when the test says so
SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
_reserved: list[socket.socket] = []  # bound: Linux gives their ports to nobody who asks for any
NEEDED = ("PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT", "TEMP", "TMP")  # most of them by Windows


class Result(NamedTuple):
    """What a run printed, the objects on stdout parsed, and its exit code."""

    objects: list[dict[str, Any]]
    stdout: str
    stderr: str
    code: int

    @property
    def only(self) -> dict[str, Any]:
        """The one object on stdout."""
        assert len(self.objects) == 1, self.stdout
        return self.objects[0]

    @property
    def error(self) -> dict[str, Any]:
        """The error of the one object on stdout."""
        return dict(self.only["error"])


class Running:
    """A running script, in a home and working directory of its own, which it must leave empty."""

    def __init__(
        self,
        script: str,
        *args: str | bytes,
        sandbox: Sandbox | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | int | None = None,
        cwd: str | Path | None = None,
        whole: bool = False,
        before: list[str] | None = None,
        **popen: Any,
    ) -> None:
        """Start it with `before`, a command, in front; `env` is added to a clean environment.

        Without `whole` it is a fork (see `forked`) if that makes no difference.
        """
        self._home, self._killed = tempfile.TemporaryDirectory(), False
        self.env = {name: os.environ[name] for name in NEEDED if name in os.environ}
        self.env["HOME"] = self.env["USERPROFILE"] = self._home.name
        if sandbox:
            self.env |= {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
        self.env |= env or {}
        if isinstance(stdin, int):
            popen["stdin"] = stdin
        # These are read by the interpreter itself as it starts.
        whole |= any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env or ())
        path, cwd = SCRIPTS / script, str(cwd or self._home.name)
        self.process: forked.Fork | subprocess.Popen[bytes]
        if whole or before or popen or not forked.POSSIBLE:
            command = [*(before or []), sys.executable, str(path), *args]
            pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            self.process = subprocess.Popen(command, env=self.env, cwd=cwd, **(pipes | popen))
        else:
            self.process = forked.Fork(path, args, self.env, cwd)
        self._arrived = threading.Condition()
        self._text = {"stdout": b"", "stderr": b""}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True)
            for name in self._text
            if getattr(self.process, name)
        ]
        for reader in self._readers:
            reader.start()
        if self.process.stdin and not isinstance(stdin, int):
            given = stdin.encode() if isinstance(stdin, str) else stdin or b""
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(given)

    def _read(self, name: str) -> None:
        with getattr(self.process, name) as stream:
            for line in stream:
                with self._arrived:
                    self._text[name] += line.replace(os.linesep.encode(), b"\n")
                    self._arrived.notify_all()

    def wait_for(self, words: str, on: str = "stderr", timeout: float = 15.0) -> str:
        """Wait until `words` are on a stream; return all that is there so far."""
        with self._arrived:
            came = self._arrived.wait_for(lambda: words.encode() in self._text[on], timeout)
            assert came, f"no {words!r} on {on} in {timeout} s, only {self._text}"
            return self._text[on].decode("ascii")

    def kill(self) -> None:
        """End it at once; the exit code of that is 1 on Windows."""
        self._killed = True
        self.process.kill()

    def end(self, timeout: float = 60.0) -> Result:
        """Wait until it has ended; check and return what it printed."""
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join()
        left = os.listdir(self._home.name)
        assert not left, f"files outside --output-dir: {left}"
        out, err = (text.decode("ascii") for text in self._text.values())
        objects = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
        assert all(isinstance(body, dict) for body in objects), out
        assert "Traceback" not in out + err, err
        key = self.env.get("LEGNEXT_API_KEY", "").strip()
        for shown in (out, err, json.dumps(objects, ensure_ascii=False)):
            assert not (key and key in shown), f"the key is shown: {shown}"
        # SIGKILL leaves no time to print, and a full disk no room.
        killed = self._killed or code < 0
        if self.process.stdout and not killed and "stdout cannot be written" not in err:
            has_error = any("error" in body for body in objects)
            assert has_error == (code != 0), f"exit {code}: {out}{err}"
        return Result(objects, out, err, code)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join()
        self._home.cleanup()


def run(script: str, *args: str | bytes, **options: Any) -> Result:
    """Run a script to its end; the options are those of `Running`."""
    with Running(script, *args, **options) as running:
        return running.end()


def made(sandbox: Sandbox, prompt: str = "a cat") -> str:
    """Make a job that no run knows of; return its id."""
    url, headers = f"{sandbox.url}/api/v1/diffusion", {"x-api-key": sandbox.key}
    reply = requests.post(url, json={"text": prompt}, headers=headers, timeout=10)
    return str(reply.json()["job_id"])


def wait_until(sandbox: Sandbox, happened: Callable[[], bool]) -> None:
    """Wait until something is true at the sandbox or on disk, at most 15 seconds."""
    deadline = time.monotonic() + 15
    with sandbox.changed:
        while not happened():
            assert time.monotonic() < deadline, [r.path for r in sandbox.requests]
            sandbox.changed.wait(0.05)  # files change without a request


def free_ports(count: int) -> list[str]:
    """Return loopback ports on which nothing listens."""
    for _ in range(count):
        _reserved.append(socket.socket())
        _reserved[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _reserved[-1].bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in _reserved[-count:]]
    while _reserved and sys.platform != "linux":
        _reserved.pop().close()
    return ports


@contextlib.contextmanager
def silent_url() -> Iterator[str]:
    """Yield a URL of this machine at which no connection is ever accepted."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # then its queue is full
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def small_picture(_prompt: str, _seed: str, number: int) -> bytes:
    """Return a small picture, in place of the sandbox's, which take time to paint."""
    return padded(SMALL, number)


def words_of(command: str) -> list[str]:
    """Split a printed command as its system's shell does."""
    return [word.strip('"') for word in shlex.split(command, posix=os.name != "nt")]
