#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Submit one Midjourney job to Legnext and print its id at once, without waiting for the pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnext.cli import arguments, command
from legnext.errors import Exit

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.jobs.progress import Board

# Hosts that kill commands after 30 s are what this script is for, so it does not go on submitting for long.
PATIENCE_SECONDS = 20.0


def parser() -> arguments.Parser:
    """Return the command line."""
    it = arguments.Parser(__doc__, 'imagine.py "a lighthouse at dawn --ar 16:9" --output-dir pictures')
    it.add_argument(
        "prompt", metavar="PROMPT", help="the whole prompt in quotes, with its parameters; - for stdin"
    )
    it.add_output_dir("directory to keep the job's record in, as DIR/<job_id>/job.json")
    it.add_prompt_flags()
    return it


def work(args: Namespace, console: Console, board: Board) -> Exit:
    """Submit the prompt and print the job."""
    from legnext.cli import inputs  # not needed for --help

    (task,), rejected = inputs.check(
        [inputs.read_prompt(args.prompt)], parameters=not args.no_check, indexed=False
    )
    board.begin([task], output_dir=args.output_dir)
    if rejected:
        board.settle(*rejected[0])
        return board.exit()
    if args.dry_run:
        console.emit(inputs.dry_run(task))
        return Exit.DONE

    from legnext.job import Job
    from legnext.jobs import lifecycle

    tools = lifecycle.prepare(console, board, args.output_dir, patience=PATIENCE_SECONDS)
    if lifecycle.advance(task, tools, lifecycle.submit, lifecycle.finish) is None:
        assert task.job is not None
        task.job = Job(task.job.job_id, task.job.status)  # nothing else is settled yet
        board.settle(task)
    tools.close()
    return board.exit()


if __name__ == "__main__":
    command.run(parser(), work)
