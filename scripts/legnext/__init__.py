"""What the four scripts share."""

import gc
import signal
import sys

__version__ = "3.0.0"

gc.disable()  # until requests is loaded: what modules allocate lives on

# Up to here Python 3.6 is enough, so that an old interpreter prints JSON too.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.stdout.write(
        '{"error": {"type": "setup_error", "code": null, "message": "Python 3.10 or newer is '
        'needed", "hint": "Start the script with `uv run`, which brings its own Python."}}\n'
    )
    sys.exit(2)

SIGNALS = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143, "SIGBREAK": 130}  # and their exit codes
received_signals: list[str] = []


def note_signals() -> None:
    """Only note signals from now on; an ignored one stays ignored (`nohup`, `&`).

    A handler only appends: it may run while the main thread holds any lock.
    """
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_, name=name: received_signals.append(name))
