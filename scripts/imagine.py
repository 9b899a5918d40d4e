#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Submit one Midjourney job to Legnext and print its id at once, without waiting for the pictures."""

from typing import TYPE_CHECKING

from legnext.cli import arguments, command

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.errors import Exit
    from legnext.jobs.progress import Progress

# Hosts that kill commands after 30 s are what this script is for, so it does not go on submitting for long.
PATIENCE_SECONDS = 20.0


def parser() -> "arguments.Parser":
    """Return the command line."""
    it = arguments.Parser(
        __doc__,
        'uv run scripts/imagine.py "a lighthouse at dawn --ar 16:9" --output-dir pictures',
        "echo 'a sign that says \"Dawn\" --ar 16:9' | uv run scripts/imagine.py - --output-dir pictures",
    )
    it.add_argument(
        "prompt", metavar="PROMPT", help="the whole prompt in quotes, with its parameters; - for stdin"
    )
    it.add_output_dir(
        "directory for the job's record; a prompt on record there, from whatever command, is not bought again"
    )
    it.add_time_limit()
    it.add_buying()
    return it


def work(args: "Namespace", console: "Console", progress: "Progress") -> "Exit":
    """Submit the prompt, unless it is on record, and print the job."""
    from legnext.cli.buying import prepared
    from legnext.cli.inputs import read_prompt

    ready = prepared(args, console, progress, [read_prompt(args.prompt)], patience=PATIENCE_SECONDS)
    if ready:
        from legnext.jobs.batch import generate

        generate(*ready, 1, budget=args.budget, check_balance=not args.no_check)
    return progress.exit()


if __name__ == "__main__":
    command.run(parser(), work)
