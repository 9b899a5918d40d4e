"""The command line: flags, their values, and the parser that the four scripts share."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from legnext.errors import MEANING, Failure
from legnext.jobs import polling

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
            from legnext.jobs.report import shell_line

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
