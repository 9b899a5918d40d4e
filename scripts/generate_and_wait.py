#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Make Midjourney pictures with Legnext: submit, wait, download, print the finished job."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # python -P omits it
import legnext

legnext.note_signals()

from legnext import cli, workflow

COMMAND = "uv run scripts/generate_and_wait.py"
PARSER = cli.Parser(
    __doc__,
    "0 1 2 3 4 5 6 7",
    ("--prompts-file", *cli.BUYING, "--retry-failed", "--concurrency", *cli.WAITING),
    f'{COMMAND} "a lighthouse at dawn --ar 16:9" --output-dir pictures',
    f"printf 'a fox\\nan owl\\n' | {COMMAND} --prompts-file - --output-dir pictures",
)
PARSER.add_argument("prompt", metavar="PROMPT", nargs="?", help=cli.PROMPT)

if __name__ == "__main__":
    cli.main(PARSER, workflow.generate)
