"""How a run begins, is stopped and ends: its thread, its signals, its time, its exit code.

The work runs in a thread of its own and the main thread waits: a signal then never breaks into the middle of
an HTTP exchange or of a file, it is only noted, and what is known of each task is printed. The limit of time
is a stop like a signal's, so that a host's limit is kept whatever the work is busy with.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from legnext import __version__
from legnext.console import Console
from legnext.errors import Exit, Failure, Phase, exit_code, hint_for, unexpected
from legnext.jobs.polling import Limit

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from queue import SimpleQueue

    from legnext.cli.arguments import Parser
    from legnext.jobs.progress import Progress

    Work = Callable[[Namespace, Console, Progress], Exit]

# Windows sends SIGBREAK for Ctrl-Break and where its console is closed.
_STOPS = {
    "SIGHUP": Exit.SIGHUP,
    "SIGINT": Exit.SIGINT,
    "SIGTERM": Exit.SIGTERM,
    "SIGBREAK": Exit.SIGINT,
}
# In slices: on Windows a wait without end would not notice Ctrl-C; and the live line has to move.
_SLICE_SECONDS = 0.2


class _Stop(NamedTuple):
    why: Failure
    exit: Exit | None = None  # a signal's own; None: what the objects say


def run(parser: Parser, work: Work) -> NoReturn:
    """Parse the command line, do `work`, print what has to be printed, and exit."""
    console = Console()
    _tell_of_itself(parser, console)

    from queue import SimpleQueue
    from threading import Thread

    inbox: SimpleQueue[_Stop | Exit | Failure] = SimpleQueue()  # the one queue that a signal handler may use
    _note_signals(inbox)
    try:
        args = parser.parse(sys.argv[1:])
    except Failure as failure:
        leave(console, _emit(parser, console, failure))
    args.limit = Limit.of(args.time_limit) if getattr(args, "time_limit", None) else None
    console = Console(quiet=args.quiet, verbose=args.verbose)

    from legnext.jobs.progress import Progress

    progress = Progress(console)

    def body() -> None:
        try:
            inbox.put(work(args, console, progress))
        except Failure as failure:
            inbox.put(failure)
        except BaseException as error:  # noqa: BLE001 - a fault of ours is told like any other
            inbox.put(unexpected(error))

    try:
        Thread(target=body, daemon=True).start()
    except RuntimeError as error:
        inbox.put(unexpected(error))
    came = _await(inbox, args, progress)
    if isinstance(came, _Stop):
        came = _stop(progress, came)
    leave(console, came if isinstance(came, Exit) else _emit(parser, console, came))


def _await(
    inbox: SimpleQueue[_Stop | Exit | Failure], args: Namespace, progress: Progress
) -> _Stop | Exit | Failure:
    """Wait until the work ends or has to be stopped, and keep the live line moving."""
    from queue import Empty

    while True:
        left = args.limit.end - time.monotonic() if args.limit else _SLICE_SECONDS
        try:
            return inbox.get(timeout=max(0.0, min(_SLICE_SECONDS, left)))
        except Empty:
            if args.limit and time.monotonic() >= args.limit.end:
                return _Stop(Failure("timeout", f"not finished within --time-limit {args.time_limit:g} s"))
            progress.show(time.monotonic())


def _stop(progress: Progress, stop: _Stop) -> Exit:
    code = progress.stop(stop.why, stop.exit)
    # The worker may be in the middle of importing it: then no file can have been begun.
    give_up = getattr(sys.modules.get("legnext.disk.files"), "give_up", None)
    if give_up:
        give_up()
    return code


def _note_signals(inbox: SimpleQueue[_Stop | Exit | Failure]) -> None:
    """Have signals noted, first come first served; one that is ignored stays so (`nohup`, `&`)."""
    import signal

    for name, exit_ in _STOPS.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            stop = _Stop(Failure("interrupted", f"stopped by {name}"), exit_)
            signal.signal(number, lambda *_, stop=stop: inbox.put(stop))


def leave(console: Console, code: Exit) -> NoReturn:
    """End the process at once: a request that was given up on must not hold it up."""
    console.say_live("")
    if code is Exit.DONE and console.lost:  # what could not be told is not done
        code = Exit.RUN_AGAIN
    os._exit(code)


def _emit(parser: Parser, console: Console, failure: Failure) -> Exit:
    """Print a failure that is not about a task, and return its exit code."""
    if failure.type == "usage":
        console.write("stderr", parser.format_usage())
    console.emit({"error": failure.as_json(hint_for(failure, Phase.NEW, None))})
    return exit_code(failure.type, Phase.NEW)


def _tell_of_itself(parser: Parser, console: Console) -> None:
    """Answer --help and --version, and exit."""
    argv = sys.argv[1:]
    if argv == ["--version"]:
        console.emit({"version": __version__})
        leave(console, Exit.DONE)
    if "-h" in argv or "--help" in argv:
        console.write("stdout", parser.format_help())
        leave(console, Exit.DONE)
