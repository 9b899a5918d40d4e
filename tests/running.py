"""Runs each script as its own process, and holds it to what stdout, stderr and the exit code promise."""

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
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import requests

import forked
from painting import encoded, paint
from sandbox import Sandbox

# The fixture `small_pictures` has the sandbox serve this one.
SMALL = encoded(paint("small --ar 4:1", "0", 1).resize((160, 40)))
SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
# Without these no Python starts on Windows.
NEEDED = ("PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT", "TEMP", "TMP")


class Result(NamedTuple):
    """What a run left: the objects on stdout, both streams as text, and the exit code."""

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
        error: dict[str, Any] = self.only["error"]
        return error


class Running:
    """A script under way, in a home and working directory of its own, which it must leave empty."""

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
        """Start it; `env` comes on top of a clean one, `before` is what starts it (a shell, a limit).

        It is a fork where that makes no difference, see `forked`, and never if it has to be `whole`.
        """
        self._home = tempfile.TemporaryDirectory()
        self._killed = False
        self.env = {name: os.environ[name] for name in NEEDED if name in os.environ}
        self.env["HOME"] = self.env["USERPROFILE"] = self._home.name
        if sandbox:
            self.env |= {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
        self.env |= env or {}
        given = stdin.encode() if isinstance(stdin, str) else stdin or b""
        if isinstance(given, int):
            popen["stdin"] = given
        whole |= bool(before or popen) or not forked.POSSIBLE
        # What the interpreter itself reads as it starts.
        whole |= any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env or ())
        path, cwd = SCRIPTS / script, str(cwd or self._home.name)
        self.process: forked.Fork | subprocess.Popen[bytes]
        if whole:
            command = [*(before or []), sys.executable, str(path), *args]
            streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            self.process = subprocess.Popen(command, env=self.env, cwd=cwd, **streams | popen)
        else:
            self.process = forked.Fork(path, args, self.env, cwd)
        self._arrived = threading.Condition()
        self._text: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("stdout", self.process.stdout), ("stderr", self.process.stderr))
            if stream
        ]
        for reader in self._readers:
            reader.start()
        if self.process.stdin and isinstance(given, bytes):
            # A child may end without having read any.
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(given)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with self._arrived:
                    self._text[name] += line.replace(os.linesep.encode(), b"\n")
                    self._arrived.notify_all()

    def wait_for(self, words: str, on: str = "stderr", timeout: float = 15.0) -> str:
        """Wait until `words` have come on a stream, and return what has come there so far."""
        with self._arrived:
            came = self._arrived.wait_for(lambda: words.encode() in self._text[on], timeout)
            assert came, f"no {words!r} on {on} in {timeout} s, only {self._text}"
            return self._text[on].decode("ascii")

    def kill(self) -> None:
        """End it at once, which Windows shows as exit code 1."""
        self._killed = True
        self.process.kill()

    def end(self, timeout: float = 60.0) -> Result:
        """Wait until it has ended; return what it left, judged."""
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join()
        left = os.listdir(self._home.name)
        assert not left, f"files outside --output-dir: {left}"
        result = judged(self._text["stdout"], self._text["stderr"], code, self.env.get("LEGNEXT_API_KEY", ""))
        # SIGKILL leaves no time for words, and a full disk no room.
        words = not self._killed and "stdout cannot be written" not in result.stderr
        if self.process.stdout and code >= 0 and words:
            told = any("error" in body for body in result.objects)
            assert told == (code != 0), f"exit {code}: {result.stdout}{result.stderr}"
        return result

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join()
        self._home.cleanup()


def judged(stdout: bytes, stderr: bytes, code: int, key: str) -> Result:
    """Return the run's result after what holds for the streams of every run has been asserted."""
    out, err = stdout.decode("ascii"), stderr.decode("ascii")
    objects = [json.loads(line, parse_constant=_refuse) for line in out.splitlines()]
    assert all(isinstance(body, dict) for body in objects), out
    assert "Traceback" not in out + err, err
    for shown in (out, err, json.dumps(objects, ensure_ascii=False)):
        assert not (key.strip() and key.strip() in shown), f"the key is shown: {shown}"
    return Result(objects, out, err, code)


def wait_until(sandbox: Sandbox, happened: Callable[[], bool]) -> None:
    """Wait until something has come about at the sandbox or on disk; AssertionError after 15 seconds."""
    deadline = time.monotonic() + 15
    with sandbox.changed:
        while not happened():
            assert time.monotonic() < deadline, [r.path for r in sandbox.requests]
            sandbox.changed.wait(0.05)  # files change without a request


def made(sandbox: Sandbox, prompt: str = "a cat") -> str:
    """Make a job that no run knows of, and return its id."""
    headers = {"x-api-key": sandbox.key}
    reply = requests.post(
        f"{sandbox.url}/api/v1/diffusion", json={"text": prompt}, headers=headers, timeout=10
    )
    job_id: str = reply.json()["job_id"]
    return job_id


def run(script: str, *args: str | bytes, **options: Any) -> Result:
    """Run a script to its end: `run("get_task.py", job_id, sandbox=sandbox, env=..., stdin=..., cwd=...)`."""
    with Running(script, *args, **options) as running:
        return running.end()


def free_ports(count: int) -> list[str]:
    """Return loopback ports on which nobody listens."""
    with contextlib.ExitStack() as stack:  # open all at once: else the same one may come twice
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(server.getsockname()[1]) for server in servers]


def words_of(command: str) -> list[str]:
    """Split a printed command as its system's shell does."""
    return [word.strip('"') for word in shlex.split(command, posix=os.name != "nt")]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
