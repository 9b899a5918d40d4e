"""A script as a fork of an interpreter that has loaded `requests` and the package, not the script.

Hundreds of tests would spend two thirds of their time on loading modules. Pipes, environment and
exit code of a fork of multiprocessing's fork server are its own.
"""

import contextlib
import functools
import gc
import itertools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

if POSSIBLE := os.name == "posix":
    _SERVER = multiprocessing.get_context("forkserver")
    _SERVER.set_forkserver_preload(["warm", "forked", "multiprocessing.popen_forkserver"])
HERE = Path(__file__).parent


class Fork:
    """A running script, like a Popen. Start all in one thread, or their exit codes get mixed up."""

    def __init__(self, script: Path, args: Sequence[str | bytes], *where: Any) -> None:
        """Start it, with pipes for all three streams; `where` is the environment and the folder."""
        pipes = [_SERVER.Pipe(duplex=False) for _ in range(3)]  # (reader, writer)
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        start = (theirs, str(script), [os.fsdecode(arg) for arg in args], *where)
        self._process = _SERVER.Process(target=_become, args=start)
        _start_server()
        self._process.start()
        self.stdin = os.fdopen(os.dup(pipes[0][1].fileno()), "wb")
        self.stdout, self.stderr = (os.fdopen(os.dup(r.fileno()), "rb") for r, _ in pipes[1:])
        for end in itertools.chain(*pipes):
            end.close()
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended; raise TimeoutExpired after `timeout` seconds."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):  # the fork server may have seen its end first
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _start_server() -> None:
    """Start the fork server with a PYTHONPATH: before Python 3.13 it ignores sys.path."""
    with mock.patch.dict(os.environ, PYTHONPATH=f"{HERE}{os.pathsep}{HERE.parent / 'scripts'}"):
        forkserver.ensure_running()


def _become(streams: list[Connection], script: str, args: list[str], env: Any, cwd: str) -> None:
    """Be the script, in the child."""
    gc.freeze()  # a collection would touch, and so copy, all that was loaded (measured: 18 ms)
    for number, end in enumerate(streams):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape")
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    scripts = str(Path(script).parent)
    sys.path[:] = [scripts, *(p for p in sys.path if not p.startswith((str(HERE), scripts)))]
    sys.argv = [script, *args]
    runpy.run_path(script, run_name="__main__")
