"""stdout and stderr: JSON objects on the one, lines for people on the other."""

from __future__ import annotations

import contextlib
import json
import os
import sys


class Console:
    """stdout and stderr: JSON objects on the one, lines for people on the other.

    A reader that goes away costs nobody a traceback: the work goes on, and the exit code tells.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """`quiet` silences progress, `verbose` shows traces."""
        self.quiet = quiet
        self.verbose = verbose
        self.live = not quiet and not verbose and _is_terminal(sys.stderr)
        self._live_line = ""

    def emit(self, body: dict[str, object]) -> None:
        """Print one object: ASCII, indented on a terminal, else one line; flushed."""
        indent = 2 if _is_terminal(sys.stdout) else None
        self.say_live("")
        write(sys.stdout, json.dumps(_printable(body), indent=indent, allow_nan=False) + "\n")

    def say(self, line: str, *, always: bool = False) -> None:
        """Write a line to stderr, unless quiet; flushed."""
        if always or not self.quiet:
            shown = self._live_line
            self.say_live("")
            write(sys.stderr, _one_line(line) + "\n")
            self.say_live(shown)

    def trace(self, line: str) -> None:
        """Write a line of --verbose to stderr."""
        write(sys.stderr, _one_line(line) + "\n")

    def say_live(self, line: str) -> None:
        """Replace the live line, which only a terminal has."""
        if self.live and line != self._live_line:
            write(sys.stderr, f"\r{line}\x1b[K")
            self._live_line = line


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):
        return False


def _one_line(text: str) -> str:
    # What a server sends must not move the cursor or colour the terminal of whoever reads it.
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return text.encode("ascii", "backslashreplace").decode("ascii")


def write(stream: object, text: str) -> None:
    """Write and flush `text`, if `stream` is there to take it."""
    try:
        stream.write(text)  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):
        # Closed, full or gone: whatever is still to be written goes nowhere.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[attr-defined]


def _printable(value: object) -> object:
    """Return `value` with lone surrogates replaced: JSON cannot carry them to every reader."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {name: _printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value
