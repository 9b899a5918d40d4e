"""Starts a script that acts at one of its steps: `STEP="KILL 12" steps.py SCRIPT ARGS...`.

KILL, TERM, STOP: that signal comes just before step 12. full: from step 12 on the disk is full.
nolock, nonet: there is no flock, or no connection is allowed. count: nothing happens. A step
changes --output-dir or uses a socket. Audit and profile hooks see it, nothing is patched. Each step
is a line on stderr.
"""

import errno
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main(script: str, *args: str) -> None:
    action, wanted = os.environ.pop("STEP").split()
    folder, count = args[args.index("--output-dir") + 1], 0
    installing = threading.Lock()

    def step(name: str, *, grows: bool = False) -> None:
        nonlocal count
        count += 1
        os.write(2, f"step {count} {name}{' grows' * grows}\n".encode("ascii", "replace"))
        if action.isupper() and count == int(wanted):
            signal.pthread_kill(threading.get_ident(), signal.Signals[f"SIG{action}"])
        if action == "full" and grows and count >= int(wanted):
            raise OSError(errno.ENOSPC, "full")
        if action == "nolock" and name == "fcntl.flock":
            raise OSError(errno.ENOLCK, "no locks")
        if action == "nonet" and name == "socket.connect":
            raise PermissionError(errno.EPERM, "no network")

    def audit(name: str, values: tuple[Any, ...]) -> None:
        grows = name in ("os.mkdir", "os.rename") or (name == "open" and values[2] & os.O_CREAT)
        changes = (grows or name == "os.remove") and str(values[0]).startswith(folder)
        if changes or name in ("http.client.send", "socket.connect", "fcntl.flock"):
            with installing:  # two threads may not do so at once
                sys.setprofile(profile)  # of this thread; from the start it would slow the imports
            step(name, grows=bool(grows))

    def profile(_frame: object, event: str, called: Any) -> None:
        name = called.__name__ if event == "c_call" else ""
        if name == "write" and str(getattr(called.__self__, "name", "")).startswith(folder):
            step(name, grows=hasattr(called.__self__, "detach"))  # without a buffer: in place
        elif name in ("pwrite", "fsync", "recv_into"):
            step(name)

    sys.addaudithook(audit)
    sys.argv, sys.path[0] = [script, *args], str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
