#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Submit one Midjourney job to Legnext and print its id at once, without waiting for it."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # not there with python -P, -I
import legnext

legnext.note_signals()  # before the other imports: Ctrl-C during those is JSON too

from threading import Event

from legnext import cli, workflow
from legnext.options import Options
from legnext.report import Reporter

PARSER = cli.Parser(
    __doc__,
    "0 1 2 3 4 5 6 7 129 130 143",
    cli.BUYING,
    'uv run scripts/imagine.py "a lighthouse at dawn --ar 16:9" --output-dir pictures',
    "echo 'a sign that says \"Dawn\"' | uv run scripts/imagine.py - --output-dir pictures",
)
PARSER.add_argument("prompt", metavar="PROMPT", help=cli.PROMPT)


def imagine(options: Options, reporter: Reporter, stop: Event) -> None:
    """Submit the prompt, unless it is on record."""
    workflow.buy(cli.read_prompt(options.prompt or ""), reporter, stop, waits=False)


if __name__ == "__main__":
    cli.main(PARSER, imagine)
