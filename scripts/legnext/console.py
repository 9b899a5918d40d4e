"""stdout and stderr: JSON objects on the one, lines for people on the other.

The work goes on whatever becomes of them: a job that is paid for is not given up because nobody reads.
"""

from __future__ import annotations

import os
import sys
from errno import EINVAL, EPIPE

# What a write to a reader that went away ends with; Windows has EINVAL for it.
_NOBODY_READS = {EPIPE, EINVAL} if os.name == "nt" else {EPIPE}


class Console:
    """What a run prints. `lost` says why stdout could not be written, other than that nobody reads it."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """`quiet` silences progress, `verbose` shows traces."""
        self.quiet = quiet
        self.verbose = verbose
        self.live = not quiet and not verbose and _is_terminal(sys.stderr)
        self.lost: str | None = None
        self._live_line = ""
        self._gone: set[str] = set()

    def emit(self, body: dict[str, object]) -> None:
        """Print one object: ASCII, indented on a terminal, else one line; flushed."""
        import json

        indent = 2 if _is_terminal(sys.stdout) else None
        self.say_live("")
        self.write("stdout", json.dumps(_printable(body), indent=indent, allow_nan=False) + "\n")

    def say(self, line: str, *, always: bool = False) -> None:
        """Write a line to stderr, unless quiet; flushed."""
        if always or not self.quiet:
            shown = self._live_line
            self.say_live("")
            self.write("stderr", _one_line(line) + "\n")
            self.say_live(shown)

    def trace(self, line: str) -> None:
        """Write a line of --verbose to stderr."""
        self.say(line, always=True)

    def say_live(self, line: str) -> None:
        """Replace the live line, which only a terminal has."""
        if self.live and line != self._live_line:
            self.write("stderr", f"\r{line}\x1b[K")
            self._live_line = line

    def write(self, name: str, text: str) -> None:
        """Write and flush `text` on "stdout" or "stderr"; one that failed once is not tried again."""
        stream = getattr(sys, name)
        if stream is None or name in self._gone:
            return
        try:
            stream.write(text)
            stream.flush()
        except (ValueError, OSError) as error:
            self._gone.add(name)
            if name == "stdout" and getattr(error, "errno", None) not in _NOBODY_READS:
                self.lost = str(getattr(error, "strerror", None) or error)
                self.say(f"stdout cannot be written: {self.lost}", always=True)


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


def _printable(value: object) -> object:
    """Return `value` with lone surrogates replaced: JSON cannot carry them to every reader."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {name: _printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value
