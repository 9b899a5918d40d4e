"""The command line: flags, their values, and the parser that the four scripts share."""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING, NoReturn

from legnext.errors import MEANING, Failure
from legnext.jobs.polling import INITIAL_WAIT, INTERVAL, MAX_WAIT

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_SECONDS = 86_400.0
MOST_AT_ONCE = 64
ACCOUNT_LIMIT = 6
"""What a standard account runs at once (API reference, "Rate limit")."""

_EXIT_CODES = "exit codes (what to do next):\n" + "\n".join(
    f"  {code:<4d} {meaning}: {step}" for code, (meaning, step) in MEANING.items()
)
# What `resume` carries on where the caller gave it: his host's limits hold for the next command too.
_TIMES = ("interval", "max_wait", "time_limit")


class _Help(argparse.RawDescriptionHelpFormatter):
    """One width everywhere. To ask the terminal, argparse imports shutil: once per flag, --help or not."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are Failures, and which never guesses at a shortened flag."""

    def __init__(self, description: str | None, *examples: str) -> None:
        """Make a parser whose --help shows `description` above the flags and the examples below."""
        shown = "\n".join(f"  {example}" for example in examples)
        super().__init__(
            description=description,
            epilog=f"{_EXIT_CODES}\n\nexamples, in the folder of SKILL.md:\n{shown}",
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self._given_or: dict[str, float] = {}
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
        """Return the arguments, or raise Failure `usage`; the hint names an unquoted prompt as such.

        `times` are the words of the times that were given, for `resume`.
        """
        args, extra = self.parse_known_args(argv)
        if args.version:  # beside anything else it is Midjourney's --version, out of an unquoted prompt
            extra.append("--version")
        if extra:
            words = f"unrecognized arguments: {' '.join(extra)}"
            raise Failure("usage", words, hint=self._unquoted(argv, args, extra))
        args.times = ()
        for name in _TIMES:
            value = getattr(args, name, None)
            if value is not None:
                args.times += (f"--{name.replace('_', '-')}", f"{value:g}")
        for name, default in self._given_or.items():
            if getattr(args, name) is None:
                setattr(args, name, default)
        return args

    def _unquoted(self, argv: list[str], args: argparse.Namespace, extra: list[str]) -> str | None:
        prompt = getattr(args, "prompt", None)
        if prompt is None:
            return None
        from legnext.jobs.report import shell_line

        # Only arguments that are no flag of ours are left over: the rest of an unquoted prompt.
        whole = shell_line([" ".join(_in_order_of(argv, [prompt, *extra]))])
        hint = f"Nothing was sent. Put the whole prompt in quotes, as one argument: {whole}"
        return hint + (" (several prompts: --prompts-file)" if hasattr(args, "prompts_file") else "")

    def add_output_dir(self, what: str) -> None:
        """Add --output-dir; `what` says what it is for."""
        self.add_argument("--output-dir", metavar="DIR", type=_directory, help=what)

    def add_buying(self) -> None:
        """Add what imagine.py and generate_and_wait.py have in common."""
        self.add_argument(
            "--again",
            action="store_true",
            help="buy anew what --output-dir has on record, and so each time it is run; `resume` goes on",
        )
        self.add_argument(
            "--budget",
            metavar="USD",
            type=_dollars,
            help="submit nothing if all that is to be bought costs more dollars, or if a price is not known",
        )
        self.add_argument(
            "--dry-run",
            action="store_true",
            help="check, and show what would be bought and what it costs; needs no key, sends nothing",
        )
        self.add_argument(
            "--no-check",
            action="store_true",
            help="check neither the prompt's parameters (only its length) nor the price against the balance",
        )

    def add_initial_wait(self) -> None:
        """Add --initial-wait."""
        self._add_seconds(
            "--initial-wait", INITIAL_WAIT, "seconds from the submit to the first look (default: {:g})"
        )

    def add_schedule(self, when: str) -> None:
        """Add --interval and --max-wait; `when` says from when the time counts."""
        self._add_seconds("--interval", INTERVAL, "seconds between two looks (default: {:g})", above_0=True)
        self._add_seconds(
            "--max-wait", MAX_WAIT, f"seconds to wait for a job at most, from {when} (default: {{:g}})"
        )

    def add_time_limit(self) -> None:
        """Add --time-limit."""
        self.add_argument(
            "--time-limit",
            metavar="SECONDS",
            type=_seconds_above_0,
            help="seconds that the whole command may take, for hosts that end commands: 10 s below their "
            "limit (default: none)",
        )

    def _add_seconds(self, flag: str, default: float, what: str, *, above_0: bool = False) -> None:
        action = self.add_argument(
            flag, metavar="SECONDS", type=_seconds_above_0 if above_0 else seconds, help=what.format(default)
        )
        self._given_or[action.dest] = default


def _in_order_of(argv: Sequence[str], words: Sequence[str]) -> list[str]:
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
    value = _number(text)
    if not 0 <= value <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_SECONDS:g}")
    return value


def _seconds_above_0(text: str) -> float:
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("it must be more than 0 seconds")
    return value


def _dollars(text: str) -> float:
    value = _number(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of US dollars, such as 0.40")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


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
    try:
        return os.path.abspath(os.path.expanduser(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"the folder that {text!r} starts from is gone ({error.strerror}): give an absolute path"
        ) from None
