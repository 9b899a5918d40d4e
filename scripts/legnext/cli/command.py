"""How a run begins, is stopped and ends: threads, signals and the exit code."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from legnext import __version__
from legnext.console import Console, write
from legnext.errors import Exit, Failure, Stage, exit_code, hint_for, unexpected

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from types import FrameType

    from legnext.cli.arguments import Parser
    from legnext.jobs.progress import Board


class Interrupted(BaseException):
    """A signal asks to stop; a BaseException, so that no handler of errors takes it for one."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit = Exit.SIGTERM if signum == getattr(signal, "SIGTERM", None) else Exit.SIGINT


def _on_signal(signum: int, _frame: FrameType | None) -> None:
    raise Interrupted(signum)


def run(parser: Parser, work: Callable[[Namespace, Console, Board], Exit]) -> NoReturn:
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

            from legnext.jobs.progress import Board  # not needed for --help

            board = Board(console)
            code = _in_background(lambda: work(args, console, board), board)
        except Failure as failure:
            if failure.type == "usage":
                write(sys.stderr, parser.format_usage())
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
    module = sys.modules.get("legnext.disk.output_dir")
    if module is not None:  # else no file can have been begun
        module.remove_partial()


def leave(console: Console, code: Exit) -> NoReturn:
    """End the process at once: a request that was given up on must not hold it up."""
    console.say_live("")
    for stream in (sys.stdout, sys.stderr):
        write(stream, "")
    os._exit(code)


def emit_failure(console: Console, failure: Failure) -> Exit:
    """Print a failure that is not about a task, and return its exit code."""
    hint = hint_for(failure, Stage.NO_JOB, None)
    console.emit({"error": failure.as_json(hint)})
    return exit_code(failure.type, Stage.NO_JOB)


def _arguments(parser: Parser, console: Console) -> Namespace:
    argv = sys.argv[1:]
    if argv == ["--version"]:
        console.emit({"version": __version__})
        leave(console, Exit.DONE)
    if "-h" in argv or "--help" in argv:
        write(sys.stdout, parser.format_help())
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
