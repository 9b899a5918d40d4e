#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Submit one Midjourney job to Legnext and print its id at once, without waiting for it."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # python -P omits it
import legnext

legnext.note_signals()

from legnext import cli, workflow

PARSER = cli.Parser(
    __doc__,
    "0 1 2 3 4 5 6 7",
    cli.BUYING,
    'uv run scripts/imagine.py "a lighthouse at dawn --ar 16:9" --output-dir pictures',
    "echo 'a sign that says \"Dawn\"' | uv run scripts/imagine.py - --output-dir pictures",
)
PARSER.add_argument("prompt", metavar="PROMPT", help=cli.PROMPT)

if __name__ == "__main__":
    cli.main(PARSER, workflow.run_prompts)
