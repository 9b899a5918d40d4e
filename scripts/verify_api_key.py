#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Check the key in LEGNEXT_API_KEY and print the account's balance. It costs nothing."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # python -P omits it
import legnext

legnext.note_signals()

from legnext import cli
from legnext.api import RETRY_SECONDS, Client, with_retry
from legnext.errors import Exit, Failure, exit_code
from legnext.report import Reporter
from legnext.settings import base_url

PARSER = cli.Parser(
    __doc__,
    "0 1 2 3",
    (),
    "uv run scripts/verify_api_key.py",
    "uv run --env-file .env scripts/verify_api_key.py",
)


def verify(reporter: Reporter) -> None:
    """Ask for the balance; `valid` is null if the answer says nothing about the key."""
    try:
        client = Client(base_url(), reporter.stop, reporter.log)
        account = with_retry(client.balance, RETRY_SECONDS, reporter.stop)
    except Failure as failure:
        code = exit_code(failure.type)
        if code in (Exit.MONEY, Exit.REFUSED):  # 402, 403: not about the key, and will not pass
            failure.type = "invalid_request"
        reporter.print_json({"valid": False if code == Exit.KEY else None}, failure)
    else:
        reporter.print_json({"valid": True, **account})


if __name__ == "__main__":
    cli.main(PARSER, verify)
