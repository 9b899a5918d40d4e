"""The command line: flags, signals, the exit code."""

import argparse
import difflib
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from legnext import SIGNALS, __version__, received_signals
from legnext.errors import EXIT_CODES, Exit, Failure, attempt
from legnext.options import Options
from legnext.parameters import BY_NAME, PICTURE_SUFFIXES
from legnext.report import Reporter, write
from legnext.settings import parse_usd

MAX_SECONDS = 86_400.0
MAX_CONCURRENCY = 64
SUBMIT_GRACE_SECONDS = 5.0  # after a signal, for the answer to a submit
GRACE_SECONDS = 0.5  # for everything else
LAST_SECONDS = 10.0  # in all: nobody may be reading stdout
Work = Callable[[Reporter], None]


def seconds(value: str) -> float:
    if re.fullmatch(r"\d*\.?\d+", value, re.ASCII) and float(value) <= MAX_SECONDS:
        return float(value)
    raise Failure("usage", f"{value!r} is not a number of seconds up to {MAX_SECONDS:g}")


def jobs_at_once(value: str) -> int:
    if re.fullmatch(r"\d+", value, re.ASCII) and 1 <= float(value) <= MAX_CONCURRENCY:
        return int(value)
    raise Failure("usage", f"--concurrency takes a whole number from 1 to {MAX_CONCURRENCY}")


def directory(value: str) -> Path:
    """Return an absolute path. Raises Failure `usage`."""
    if not value or Path(value).suffix[1:].lower() in PICTURE_SUFFIXES:
        raise Failure("usage", f"--output-dir {value!r} names no folder")
    try:
        value.encode()
        return Path(os.path.abspath(os.path.expanduser(value)))
    except (UnicodeError, OSError) as error:  # OSError: the working directory is gone
        raise Failure("usage", f"--output-dir cannot be used: {error}") from None


# fmt: off
FLAGS: dict[str, str | tuple[str, str, Callable[[str], object]]] = {  # help; unit and reader
    "--output-dir": ("folder for pictures; what was bought there is reused; without it you get "
        "links that expire", "DIR", directory),
    "--prompts-file": ("one prompt per line, or JSON Lines; - for stdin", "FILE", str),
    "--again": "buy another set; every run costs again; to continue a job use `resume`",
    "--retry-failed": "buy jobs again that are on record as failed",
    "--budget": ("submit nothing if it costs more, or a price is not known", "USD",
        partial(parse_usd, name="--budget")),
    "--concurrency": ("jobs that may be unfinished at once", "JOBS", jobs_at_once),
    "--wait": "wait until each job is over",
    "--initial-wait": ("before the first status check", "SECONDS", seconds),
    "--interval": ("between two status checks", "SECONDS", seconds),
    "--max-wait": ("longest wait for a job, from its submit; else from now", "SECONDS", seconds),
    "--dry-run": "show what would be bought; needs no key, sends nothing",
    "--no-check": "skip the prompt check",
    "--version": "print the version as JSON",
    "--quiet": "no progress on stderr, only the job id",
    "--verbose": "HTTP exchanges on stderr, without the key",
}
# fmt: on
BUYING = ("--output-dir", "--again", "--budget", "--dry-run", "--no-check")
WAITING = ("--initial-wait", "--interval", "--max-wait")
PROMPT = "the whole prompt, in quotes; - for stdin"


class Parser(argparse.ArgumentParser):
    """A parser that fills in Options and never guesses at a shortened flag."""

    def __init__(self, about: str | None, codes: str, flags: tuple[str, ...], *examples: str):
        """`codes`: its exit codes but for signals. The examples run as printed."""
        codes += " 129 130 143"
        lines = ["exit codes:", *(f"  {c:<4}{EXIT_CODES[int(c)]}" for c in codes.split())]
        super().__init__(
            description=about,
            epilog="\n".join([*lines, "", "examples:", *(f"  {line}" for line in examples)]),
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
            allow_abbrev=False,
        )
        self.flags = (*flags, "--version", "--quiet", "--verbose")
        for flag in self.flags:
            row = FLAGS[flag]
            if isinstance(row, str):
                self.add_argument(flag, action="store_true", help=row)
                continue
            help_, unit, read = row
            default = getattr(Options, flag[2:].replace("-", "_"))
            help_ += "" if default is None else f" (default: {default:g})"
            self.add_argument(flag, metavar=unit, type=read, help=help_)

    def error(self, message: str) -> NoReturn:
        raise Failure("usage", re.sub(r"(['\"]).*\1", "…", message))  # a value may be a key

    def parse(self, argv: list[str]) -> Options:
        """Return the options. Raises Failure `usage`, which never quotes an unknown value."""
        options, extra = self.parse_known_args(argv, Options())
        if options.version or extra:  # next to anything else --version is Midjourney's
            raise self._leftover(options, extra, argv)
        for flag in ("--interval", "--max-wait"):
            if any(word.partition("=")[0] == flag for word in argv):
                value = getattr(options, flag[2:].replace("-", "_"))
                options.waiting_flags += (flag, f"{value:g}")
        return options

    def _leftover(self, options: Options, extra: list[str], argv: list[str]) -> Failure:
        """Return the Failure for what is left over: an unknown flag, or a prompt."""
        for word in extra:
            if word.lstrip("-") in BY_NAME or not re.match("-.*[A-Za-z]", word):
                continue
            found = re.match("--[A-Za-z][A-Za-z_-]{0,20}(?![^=])|-[A-Za-z]", word)
            name = found[0] if found else ""
            close = difflib.get_close_matches(name.replace("_", "-").lower(), self.flags, 1)
            hint = f"Did you mean {close[0]}?" if close else ""
            return Failure("usage", f"unknown flag {name}", hint=hint)
        if options.prompt is None:
            return Failure("usage", "too many arguments")
        parts = [word for word in argv if word in (options.prompt, "--version", *extra)]
        hint = f"Put the whole prompt in quotes: {shlex.quote(' '.join(parts))}."
        return Failure("usage", "the prompt is not in quotes", hint=hint)


def main(parser: Parser, work: Work) -> NoReturn:
    """Run, in a thread: this one only sees that a signal ends the process."""
    runner = threading.Thread(target=run, args=(parser, work), daemon=True)
    runner.start()
    while runner.is_alive() and not received_signals:
        runner.join(0.1)
    runner.join(LAST_SECONDS)
    os._exit(SIGNALS[received_signals[0]] if received_signals else Exit.RETRY)


def run(parser: Parser, work: Work) -> NoReturn:
    """Do the work in a thread; at its end, or a signal, print what is left and exit."""
    argv, reporter = sys.argv[1:], Reporter(Options())
    if "-h" in argv or "--help" in argv:
        os._exit(Exit.DONE if write(sys.stdout, parser.format_help()) else Exit.RETRY)
    if argv == ["--version"]:
        reporter.print_json({"version": __version__})
        os._exit(reporter.print_total())
    try:
        reporter = Reporter(parser.parse(argv))
    except Failure as failure:
        reporter.print_json({}, failure)
        os._exit(reporter.print_total())
    worker = threading.Thread(target=do_work, args=(work, reporter), daemon=True)
    worker.start()
    while worker.is_alive() and not received_signals:
        worker.join(0.1)
        reporter.tick()
    if worker.is_alive():
        reporter.stop.set()
        wait_for(worker, reporter)
        os._exit(reporter.interrupt(received_signals[0]))
    os._exit(reporter.print_total())  # whatever other threads still do


def do_work(work: Work, reporter: Reporter) -> None:
    if failure := attempt(work, reporter):
        reporter.print_json({}, failure)


def wait_for(worker: threading.Thread, reporter: Reporter) -> None:
    """Give the work a moment to stop, and a submit that is out some seconds."""
    began, grace = time.monotonic(), GRACE_SECONDS
    while worker.is_alive() and time.monotonic() - began < grace:
        worker.join(0.02)
        is_out = any(task.is_submitting for task in reporter.tasks)
        grace = SUBMIT_GRACE_SECONDS if is_out else GRACE_SECONDS
