#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Check the key in LEGNEXT_API_KEY and print the account's balance. It costs nothing."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # not there with python -P, -I
import legnext

legnext.note_signals()  # before the other imports: Ctrl-C during those is JSON too

from threading import Event

from legnext import cli
from legnext.api import RETRY_SECONDS, Client, with_retry
from legnext.errors import Exit, Failure, exit_code
from legnext.options import Options
from legnext.report import Reporter
from legnext.settings import base_url

PARSER = cli.Parser(
    __doc__,
    "0 1 2 3 129 130 143",
    (),
    "uv run scripts/verify_api_key.py",
    "uv run --env-file .env scripts/verify_api_key.py",
)


def verify(options: Options, reporter: Reporter, stop: Event) -> None:
    """Ask for the balance; `valid` is null if the answer says nothing about the key."""
    try:
        client = Client(base_url(), reporter.always_say if options.verbose else None)
        account = with_retry(client.balance, RETRY_SECONDS, stop)
    except Failure as failure:
        code = exit_code(failure.type)
        if code in (Exit.MONEY, Exit.PROMPT):  # 402, 403: not about the key, and will not pass
            failure.type = "invalid_request"
        reporter.fail(failure, {"valid": False if code == Exit.KEY else None})
    else:
        reporter.show({"valid": True, **account})


if __name__ == "__main__":
    cli.main(PARSER, verify)
