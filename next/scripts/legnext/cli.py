"""The command line: flags, prompts from an argument, stdin or a file, signals, the exit code."""

from __future__ import annotations

import argparse
import codecs
import difflib
import json
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from legnext import __version__, received_signals
from legnext.errors import EXIT_CODES, Failure, as_failure
from legnext.options import Options
from legnext.parameters import BY_NAME, PICTURE_SUFFIXES
from legnext.report import Reporter
from legnext.settings import parse_usd

MAX_SECONDS = 86_400.0
MAX_CONCURRENCY = 64
MAX_INPUT_BYTES = 64_000_000
SUBMIT_GRACE_SECONDS = 5.0  # for the answer to a submit that is out when a signal comes
GRACE_SECONDS = 0.5  # for everything else
CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")
OTHER_KINDS = {  # what the first line of a file that is no list of prompts looks like
    r"\{\\rtf": "RTF",
    r"(?i)<(!doctype|html|\?xml)": "HTML",
    r"---\s*$": "a file with front matter",
    r"\[\s*([\"\[{]|$)": "one JSON document",
}

Work = Callable[[Options, Reporter, threading.Event], None]


# --- Flags


def seconds(value: str) -> float:
    """Return a number of seconds. Raises Failure `usage`."""
    number = float(value) if re.fullmatch(r"\d*\.?\d+", value, re.ASCII) else MAX_SECONDS + 1
    if number > MAX_SECONDS:
        raise Failure("usage", f"{value!r} is not a number of seconds up to {MAX_SECONDS:g}")
    return number


def jobs_at_once(value: str) -> int:
    """Return a number of jobs. Raises Failure `usage`."""
    if not (re.fullmatch(r"\d{1,3}", value, re.ASCII) and 1 <= int(value) <= MAX_CONCURRENCY):
        raise Failure("usage", f"--concurrency takes a whole number from 1 to {MAX_CONCURRENCY}")
    return int(value)


def usd(value: str) -> float:
    """Return an amount of money. Raises Failure `usage`."""
    return parse_usd(value, "--budget")


def directory(value: str) -> Path:
    """Return an absolute path. Raises Failure `usage`."""
    if not value or any("\ud800" <= c <= "\udfff" for c in value):
        raise Failure("usage", "--output-dir is empty, or not valid Unicode")
    if Path(value).suffix[1:].lower() in PICTURE_SUFFIXES:
        raise Failure("usage", f"--output-dir {value!r} looks like a picture: name a folder")
    try:
        return Path(os.path.abspath(os.path.expanduser(value)))
    except OSError as error:
        raise Failure("usage", f"the working directory is gone: {error}") from None


SAVED = "prompts already bought there are reused; without it you get links that expire"
AGAIN = "every run with --again costs again; to continue a job use the `resume` command"
# fmt: off
FLAGS: dict[str, tuple[str, str, Callable[[str], object] | None]] = {  # help, unit, reader of it
    "--output-dir": (f"folder for pictures; {SAVED}", "DIR", directory),
    "--prompts-file": ("one prompt per line, or JSON Lines; - for stdin", "FILE", str),
    "--again": (f"buy another set; {AGAIN}", "", None),
    "--retry-failed": ("buy jobs again that are on record as failed", "", None),
    "--budget": ("submit nothing if it would cost more, or if a price is not known", "USD", usd),
    "--concurrency": ("jobs that may be unfinished at once", "JOBS", jobs_at_once),
    "--wait": ("wait until each job is over", "", None),
    "--initial-wait": ("seconds before the first status check", "SECONDS", seconds),
    "--interval": ("seconds between two status checks", "SECONDS", seconds),
    "--max-wait": ("seconds to wait for a job, from its submit; else from now", "SECONDS", seconds),
    "--dry-run": ("show what would be bought; needs no key, sends nothing", "", None),
    "--no-check": ("skip the prompt check", "", None),
    "--version": ("print the version as JSON", "", None),
    "--quiet": ("no progress on stderr, only the job id", "", None),
    "--verbose": ("each HTTP exchange on stderr, without the key", "", None),
}
# fmt: on
BUYING = ("--output-dir", "--again", "--budget", "--dry-run", "--no-check")
WAITING = ("--initial-wait", "--interval", "--max-wait")
PROMPT = "the whole prompt, in quotes; - for stdin"


class Parser(argparse.ArgumentParser):
    """A parser that fills in Options and never guesses at a shortened flag."""

    def __init__(self, words: str | None, codes: str, flags: Iterable[str], *examples: str) -> None:
        """`codes`: the exit codes of this script. The examples run as printed."""
        lines = ["exit codes:", *(f"  {c:<4}{EXIT_CODES[int(c)]}" for c in codes.split())]
        super().__init__(
            description=words,
            epilog="\n".join([*lines, "", "examples:", *(f"  {line}" for line in examples)]),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
            allow_abbrev=False,
        )
        for flag in (*flags, "--version", "--quiet", "--verbose"):
            help_, unit, read = FLAGS[flag]
            if read is None:
                self.add_argument(flag, action="store_true", help=help_)
                continue
            default = getattr(Options, flag[2:].replace("-", "_"))
            help_ += "" if default is None else f" (default: {default:g})"
            self.add_argument(flag, metavar=unit, type=read, help=help_)

    def error(self, message: str) -> NoReturn:
        # argparse quotes values, which may be a key.
        raise Failure("usage", re.sub(r"(['\"]).*\1", "…", message))

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
        """Return the Failure for arguments that are left over: an unknown flag, or a prompt."""
        flags = [word for word in extra if re.match("-.*[A-Za-z]", word)]
        unknown = [word for word in flags if word.lstrip("-") not in BY_NAME]
        if unknown:
            name = re.match("--[A-Za-z][A-Za-z_-]{0,20}(?![^=])|-[A-Za-z]", unknown[0])
            shown = name[0] if name else "a flag"
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            close = difflib.get_close_matches(shown.replace("_", "-").lower(), known, 1)
            hint = f"Did you mean {close[0]}?" if close else ""
            return Failure("usage", f"unknown flag {shown}", hint=hint)
        if not any(action.dest == "prompt" for action in self._actions):
            return Failure("usage", f"{len(extra)} arguments too many")
        parts = [word for word in argv if word in (options.prompt, "--version", *extra)]
        hint = f"Put the whole prompt in quotes, as one argument: {shlex.quote(' '.join(parts))}."
        return Failure("usage", "the prompt is not in quotes", hint=hint)


# --- Prompts


def read_prompt(argument: str) -> list[tuple[str, str]]:
    """Return the prompt of the argument, or of stdin if it is `-`. Raises Failure."""
    if argument == "-":
        return [(read_text("-", "stdin"), "")]
    if "\0" not in argument and os.path.isfile(argument):
        hint = "For the prompts in a file: generate_and_wait.py --prompts-file FILE."
        raise Failure("usage", f"{argument!r} is a file, not a prompt", hint=hint)
    return [(argument, "")]


def read_prompts(path: str) -> list[tuple[str, str]]:
    """Return (prompt, name) for each line of a file, or of stdin if it is `-`. Raises Failure."""
    lines = re.split("\r\n|\r|\n", read_text(path, "the prompts file"))
    stripped = [(n, line.strip(" \t\ufeff")) for n, line in enumerate(lines, 1)]
    numbered = [(n, line) for n, line in stripped if line and not line.startswith("#")]
    if not numbered:
        raise Failure("usage", "the prompts file has no prompt in it")
    for n, line in numbered:
        if odd := CONTROL.search(line):
            raise not_a_list(n, f"a control character, U+{ord(odd[0]):04X}")
        if line.startswith(("```", "~~~")):
            raise not_a_list(n, "this looks like Markdown with a code fence")
    first, start = numbered[0]
    for pattern, kind in OTHER_KINDS.items():
        if re.match(pattern, start):
            raise not_a_list(first, f"this looks like {kind}")
    if start.startswith("{"):
        return [parse_json_line(n, line) for n, line in numbered]
    return [(line, "") for _, line in numbered]


def parse_json_line(n: int, line: str) -> tuple[str, str]:
    """Return the (prompt, name) of line number `n`. Raises Failure."""
    try:
        body = json.loads(line)
        prompt, name = body["prompt"], body.get("name", "")
        if isinstance(prompt, str) and isinstance(name, str):
            return prompt, name
    except (ValueError, RecursionError, TypeError, KeyError):
        pass
    raise not_a_list(n, 'not {"prompt": "…", "name": "…"} as the first line says')


def not_a_list(n: int, why: str) -> Failure:
    hint = "Write one prompt per line, as plain text in UTF-8."
    return Failure("invalid_prompt", f"the prompts file, line {n}: {why}", hint=hint)


def read_text(path: str, what: str) -> str:
    """Return a file or stdin as text: UTF-8, or UTF-16 with a byte order mark. Raises Failure."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MAX_INPUT_BYTES) if sys.stdin else b""
        else:
            content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise Failure("file_error", f"{what} cannot be read: {error}") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        words = f"{what}, line {line}: not UTF-8"
        raise Failure("invalid_prompt", words, hint="Save it as UTF-8.") from None


# --- The run


def main(parser: Parser, work: Work) -> NoReturn:
    """Do the work in a thread; when it is over, or a signal comes, print what is left and exit."""
    argv, reporter, stop = sys.argv[1:], Reporter(Options()), threading.Event()
    if "-h" in argv or "--help" in argv:
        print(parser.format_help(), end="", flush=True)  # noqa: T201
        os._exit(0)
    if argv == ["--version"]:
        reporter.show({"version": __version__})
        os._exit(reporter.finish())
    try:
        reporter = Reporter(parser.parse(argv))
    except Failure as failure:
        reporter.fail(failure, {})
        os._exit(reporter.finish())
    worker = threading.Thread(target=carry_out, args=(work, reporter, stop), daemon=True)
    worker.start()
    while worker.is_alive() and not received_signals:
        worker.join(0.1)
        reporter.tick()
    if received_signals:
        reporter.signal = received_signals[0]
        stop.set()
        wait_for(worker, reporter)
        reporter.interrupt()
    os._exit(reporter.finish())  # no request or thread that is given up may hold it up


def carry_out(work: Work, reporter: Reporter, stop: threading.Event) -> None:
    """Do the work; print why it failed, if not for one of its tasks."""
    try:
        work(reporter.options, reporter, stop)
    except Exception as error:  # noqa: BLE001 - a bug of ours becomes an error object
        reporter.fail(as_failure(error), {})


def wait_for(worker: threading.Thread, reporter: Reporter) -> None:
    """Give the work a moment to stop, and a submit that is out some seconds for its answer."""
    began, grace = time.monotonic(), GRACE_SECONDS
    while worker.is_alive() and time.monotonic() - began < grace:
        worker.join(0.02)
        is_out = any(task.is_submitting for task in reporter.tasks)
        grace = SUBMIT_GRACE_SECONDS if is_out else GRACE_SECONDS
