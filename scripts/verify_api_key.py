#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Check the Legnext API key in LEGNEXT_API_KEY and print the account's balance; costs nothing."""

from typing import TYPE_CHECKING

from legnext.cli import arguments, command
from legnext.errors import Exit, Failure, Phase, exit_code, hint_for

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.jobs.progress import Progress


def parser() -> "arguments.Parser":
    """Return the command line."""
    return arguments.Parser(__doc__, "uv run scripts/verify_api_key.py")


def work(args: "Namespace", console: "Console", _progress: "Progress") -> "Exit":
    """Ask for the balance and print it; `valid` is null where the answer says nothing about the key."""
    from legnext.wire.api import Api
    from legnext.wire.settings import settings

    try:
        account = Api(settings(), console.trace if args.verbose else None).balance()
    except Failure as failure:
        code = exit_code(failure.type, Phase.NEW)
        error = failure.as_json(hint_for(failure, Phase.NEW, None))
        console.emit({"valid": False if code is Exit.MEND_KEY else None, "error": error})
        return code
    console.emit({"valid": True, **account})
    return Exit.DONE


if __name__ == "__main__":
    command.run(parser(), work)
