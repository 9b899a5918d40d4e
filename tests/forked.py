"""A script as a fork of an interpreter that has loaded `requests` and none of ours.

A suite of 800 processes would spend two thirds of its time on loading `requests` again. A fork of the fork
server of multiprocessing is a process like any other: pipes, environment and exit code are its own.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

if POSSIBLE := os.name == "posix":
    _SERVER = multiprocessing.get_context("forkserver")
    _SERVER.set_forkserver_preload(["requests", "argparse", "concurrent.futures.thread"])


class Fork:
    """A script under way, with the methods of `subprocess.Popen` that tests use, and pipes on all streams.

    For one thread: multiprocessing mixes up exit codes where several start processes.
    """

    def __init__(self, script: Path, args: Sequence[str | bytes], env: dict[str, str], cwd: str) -> None:
        """Start it."""
        ends = [os.pipe() for _ in range(3)]
        theirs = [ends[0][0], ends[1][1], ends[2][1]]
        start = ([_End(end) for end in theirs], str(script), [os.fsdecode(arg) for arg in args], env, cwd)
        self._process = _SERVER.Process(target=_become, args=start)
        self._process.start()
        for end in theirs:
            os.close(end)
        self.stdin = open(ends[0][1], "wb")  # noqa: SIM115 - whoever started it closes it
        self.stdout, self.stderr = (open(read, "rb") for read, _ in ends[1:])  # noqa: SIM115
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended; TimeoutExpired if it has not in so many seconds."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):  # the fork server may know of its end before us
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _End:
    """The child's end of a pipe: a descriptor here, and the one it is there."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken_over, (reduction.DupFd(self.descriptor),)


def _taken_over(end: Any) -> _End:
    return _End(end.detach())


def _become(ends: list[_End], script: str, args: list[str], env: dict[str, str], cwd: str) -> None:
    for number, end in enumerate(ends):
        os.dup2(end.descriptor, number)
        os.close(end.descriptor)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), "utf-8", "surrogateescape")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "wb")), "utf-8")
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "wb")), "utf-8", "backslashreplace")
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    tests, scripts = str(Path(__file__).parent), str(Path(script).parent)
    sys.path[:] = [scripts, *(path for path in sys.path if not path.startswith((tests, scripts)))]
    sys.argv = [script, *args]
    runpy.run_path(script, run_name="__main__")
