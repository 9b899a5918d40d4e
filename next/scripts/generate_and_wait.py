#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Make Midjourney pictures with Legnext: submit, wait, download, print the finished job."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # not there with python -P, -I
import legnext

legnext.note_signals()  # before the other imports: Ctrl-C during those is JSON too

from threading import Event

from legnext import cli, workflow
from legnext.errors import Failure
from legnext.options import Options
from legnext.report import Reporter

COMMAND = "uv run scripts/generate_and_wait.py"
PARSER = cli.Parser(
    __doc__,
    "0 1 2 3 4 5 6 7 129 130 143",
    ("--prompts-file", *cli.BUYING, "--retry-failed", "--concurrency", *cli.WAITING),
    f'{COMMAND} "a lighthouse at dawn --ar 16:9" --output-dir pictures',
    f"printf 'a fox\\nan owl\\n' | {COMMAND} --prompts-file - --output-dir pictures",
)
PARSER.add_argument("prompt", metavar="PROMPT", nargs="?", help=cli.PROMPT)


def generate(options: Options, reporter: Reporter, stop: Event) -> None:
    """Make the pictures of one prompt, or of each prompt in a file."""
    if options.prompt is not None and options.prompts_file is None:
        prompts = cli.read_prompt(options.prompt)
    elif options.prompts_file is not None and options.prompt is None:
        prompts = cli.read_prompts(options.prompts_file)
    else:
        raise Failure("usage", "give either one PROMPT, in quotes, or --prompts-file FILE")
    workflow.buy(prompts, reporter, stop, waits=True)


if __name__ == "__main__":
    cli.main(PARSER, generate)
