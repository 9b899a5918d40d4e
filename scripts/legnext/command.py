"""What every command shares: its parser, JSON on stdout, lines on stderr, exit codes and signals."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from legnext import __version__, polling
from legnext.errors import MEANING, Exit, Failure, Stage, exit_code, hint_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from legnext.board import Board

LONGEST_SECONDS = 86_400.0
MOST_AT_ONCE = 64

_EXIT_CODES = "exit codes (what to do next):\n" + "\n".join(
    f"  {code:<4d} {meaning}: {step}" for code, (meaning, step) in MEANING.items()
)


class _Help(argparse.RawDescriptionHelpFormatter):
    """One width everywhere. To ask the terminal, argparse imports shutil: once per flag, --help or not."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are Failures, and which never guesses at a shortened flag."""

    def __init__(self, description: str, example: str) -> None:
        """Make a parser whose --help shows `description` above the flags and `example` below."""
        super().__init__(
            description=description,
            epilog=f"{_EXIT_CODES}\n\nexample:\n  {example}",
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self.add_argument("--version", action="store_true", help="print the version as JSON and exit")
        self.add_argument(
            "--quiet", action="store_true", help="no progress on stderr; the job id is shown still"
        )
        self.add_argument(
            "--verbose", action="store_true", help="show each HTTP exchange on stderr; the key is redacted"
        )

    def error(self, message: str) -> NoReturn:
        """Raise Failure `usage`."""
        raise Failure("usage", message)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Return the arguments, or raise Failure `usage`; the hint names an unquoted prompt as such."""
        args, extra = self.parse_known_args(argv)
        if args.version:  # beside anything else it is Midjourney's --version, out of an unquoted prompt
            extra.append("--version")
        if not extra:
            return args
        hint = None
        prompt = getattr(args, "prompt", None)
        if prompt is not None:
            from legnext.report import shell_line

            # Only arguments that are no flag of ours are left over: the rest of an unquoted prompt.
            whole = shell_line([" ".join(_in_order_of(argv, [prompt, *extra]))])
            hint = f"Nothing was sent. Put the whole prompt in quotes, as one argument: {whole}"
            if hasattr(args, "prompts_file"):
                hint += " (several prompts: --prompts-file)"
        raise Failure("usage", f"unrecognized arguments: {' '.join(extra)}", hint=hint)

    def add_prompt_flags(self) -> None:
        """Add what imagine.py and generate_and_wait.py have in common."""
        self.add_argument(
            "--dry-run",
            action="store_true",
            help="check and show what would be sent; needs no key, sends nothing",
        )
        self.add_argument(
            "--no-check", action="store_true", help="do not check the prompt's parameters, only its length"
        )

    def add_output_dir(self, what: str) -> None:
        """Add --output-dir; `what` says what it is for."""
        self.add_argument("--output-dir", metavar="DIR", type=_directory, help=what)

    def add_schedule(self, when: str) -> None:
        """Add --interval and --max-wait; `when` says from when the time counts."""
        self.add_argument(
            "--interval",
            metavar="SECONDS",
            type=_seconds_above_0,
            default=polling.INTERVAL,
            help="seconds between two looks (default: %(default)g)",
        )
        self.add_argument(
            "--max-wait",
            metavar="SECONDS",
            type=seconds,
            default=polling.MAX_WAIT,
            help=f"seconds to wait at most, from {when} (default: %(default)g)",
        )


def _in_order_of(argv: list[str], words: list[str]) -> list[str]:
    """Return `words` in the order in which they stand in `argv`."""
    left = list(words)
    ordered = []
    for word in argv:
        if word in left:
            left.remove(word)
            ordered.append(word)
    return ordered


def seconds(text: str) -> float:
    """Return a number of seconds from 0 to a day, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_SECONDS:g}")
    return value


def _seconds_above_0(text: str) -> float:
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("it must be more than 0 seconds")
    return value


def at_once(text: str) -> int:
    """Return a number of jobs from 1 to MOST_AT_ONCE, for argparse."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_AT_ONCE):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_AT_ONCE}")
    return int(text)


def _directory(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty; name a directory")
    if any("\ud800" <= c <= "\udfff" for c in text):
        # Its files and the command that goes on could not be told in JSON.
        raise argparse.ArgumentTypeError("its name is not valid Unicode")
    return os.path.abspath(os.path.expanduser(text))


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
        _write(sys.stdout, json.dumps(_printable(body), indent=indent, allow_nan=False) + "\n")

    def say(self, line: str, *, always: bool = False) -> None:
        """Write a line to stderr, unless quiet; flushed."""
        if always or not self.quiet:
            shown = self._live_line
            self.say_live("")
            _write(sys.stderr, _one_line(line) + "\n")
            self.say_live(shown)

    def trace(self, line: str) -> None:
        """Write a line of --verbose to stderr."""
        _write(sys.stderr, _one_line(line) + "\n")

    def say_live(self, line: str) -> None:
        """Replace the live line, which only a terminal has."""
        if self.live and line != self._live_line:
            _write(sys.stderr, f"\r{line}\x1b[K")
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


def _write(stream: object, text: str) -> None:
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


class Interrupted(BaseException):
    """A signal asks to stop; a BaseException, so that no handler of errors takes it for one."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit = Exit.SIGTERM if signum == getattr(signal, "SIGTERM", None) else Exit.SIGINT


def _on_signal(signum: int, _frame: FrameType | None) -> None:
    raise Interrupted(signum)


def run(parser: Parser, work: Callable[[argparse.Namespace, Console, Board], Exit]) -> NoReturn:
    """Parse the command line, do `work`, print what has to be printed, and exit.

    `work` runs in a thread of its own and the main thread waits: a signal then never breaks into the
    middle of an HTTP exchange or of a file, it only reads how far each task has got.
    """
    _handle_signals(_on_signal)
    board: Board | None = None
    console = Console()
    try:
        try:
            args = _arguments(parser, console)
            console = Console(quiet=args.quiet, verbose=args.verbose)

            from legnext.board import Board  # not needed for --help

            board = Board(console)
            code = _in_background(lambda: work(args, console, board), board)
        except Failure as failure:
            if failure.type == "usage":
                _write(sys.stderr, parser.format_usage())
            code = emit_failure(console, failure)
        _handle_signals(signal.SIG_IGN)
    except Interrupted as stop:
        _handle_signals(signal.SIG_IGN)  # what follows is quick, and must be whole
        if board is None or not board.stop(stop.exit):
            emit_failure(console, Failure("interrupted", "stopped by a signal before anything was sent"))
        _remove_partial_files()
        code = stop.exit
    leave(console, code)


def _handle_signals(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last is Ctrl-Break on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)


def _remove_partial_files() -> None:
    module = sys.modules.get("legnext.output_dir")
    if module is not None:  # else no file can have been begun
        module.remove_partial()


def leave(console: Console, code: Exit) -> NoReturn:
    """End the process at once: a request that was given up on must not hold it up."""
    console.say_live("")
    for stream in (sys.stdout, sys.stderr):
        _write(stream, "")
    os._exit(code)


def emit_failure(console: Console, failure: Failure) -> Exit:
    """Print a failure that is not about a task, and return its exit code."""
    hint = hint_for(failure, Stage.NO_JOB, None)
    console.emit({"error": failure.as_json(hint)})
    return exit_code(failure.type, Stage.NO_JOB)


def _arguments(parser: Parser, console: Console) -> argparse.Namespace:
    argv = sys.argv[1:]
    if argv == ["--version"]:
        console.emit({"version": __version__})
        leave(console, Exit.DONE)
    if "-h" in argv or "--help" in argv:
        _write(sys.stdout, parser.format_help())
        leave(console, Exit.DONE)
    return parser.parse(argv)


def _in_background(work: Callable[[], Exit], board: Board) -> Exit:
    from threading import Event, Thread

    done = Event()
    result: list[Exit | Failure] = []

    def body() -> None:
        try:
            result.append(work())
        except Failure as failure:
            result.append(failure)
        except Exception as error:  # noqa: BLE001 - a fault of ours is told like any other
            result.append(unexpected(error))
        finally:
            done.set()

    Thread(target=body, daemon=True).start()
    # In slices: on Windows a wait without end would not notice Ctrl-C.
    while not done.wait(0.2):
        board.show(time.monotonic())
    outcome = result[0]
    if isinstance(outcome, Failure):
        raise outcome
    return outcome


def unexpected(error: BaseException, *, sent: bool = False) -> Failure:
    """Return the Failure for a fault in this program; `sent` says that a submit was out when it happened."""
    message = f"unexpected fault in this program: {type(error).__name__}: {error}"
    return Failure("submission_unknown" if sent else "api_error", message)
