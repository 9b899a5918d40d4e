#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Make Midjourney pictures with Legnext: submit, wait, print the finished job, put its images in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnext.cli import arguments, command
from legnext.errors import Exit, Failure
from legnext.jobs import polling

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.jobs.progress import Board

# What a standard account runs at once (API reference, "Rate limit").
ACCOUNT_LIMIT = 6


def parser() -> arguments.Parser:
    """Return the command line."""
    it = arguments.Parser(
        __doc__, 'generate_and_wait.py "a lighthouse at dawn --ar 16:9" --output-dir pictures'
    )
    it.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs="?",
        help="the whole prompt in quotes, with its parameters; - for stdin",
    )
    it.add_argument("--prompts-file", metavar="FILE", help="several prompts, one per line; - for stdin")
    it.add_output_dir("directory for records, images and a gallery page; without it only URLs, which expire")
    it.add_argument(
        "--resume",
        action="store_true",
        help="pick up what --output-dir has of these prompts, from whatever command; submit only the rest",
    )
    it.add_argument(
        "--concurrency",
        metavar="JOBS",
        type=arguments.at_once,
        default=ACCOUNT_LIMIT,
        help="jobs at once, at most (default: %(default)s, the account limit)",
    )
    it.add_argument(
        "--initial-wait",
        metavar="SECONDS",
        type=arguments.seconds,
        default=polling.INITIAL_WAIT,
        help="seconds from the submit to the first look (default: %(default)g)",
    )
    it.add_schedule("the submit")
    it.add_prompt_flags()
    return it


def work(args: Namespace, console: Console, board: Board) -> Exit:
    """Check every prompt, then make the pictures of all of them."""
    from legnext.cli import inputs  # not needed for --help

    if (args.prompt is None) == (args.prompts_file is None):
        raise Failure("usage", "give either one PROMPT, in quotes, or --prompts-file FILE")
    if args.resume and not args.output_dir:
        raise Failure("usage", "--resume looks for jobs in --output-dir, which is missing")
    many = args.prompts_file is not None
    prompts = inputs.read_prompts(args.prompts_file) if many else [inputs.read_prompt(args.prompt)]
    tasks, rejected = inputs.check(prompts, parameters=not args.no_check, indexed=many)
    if rejected:
        board.begin([one.task for one in rejected], output_dir=args.output_dir)
        for one in rejected:
            board.settle(*one)
        return board.exit()
    if args.dry_run:
        for task in tasks:
            console.emit(inputs.dry_run(task))
        return Exit.DONE

    from legnext.jobs import batch, lifecycle
    from legnext.jobs.polling import Schedule

    board.begin(tasks, output_dir=args.output_dir)
    schedule = Schedule(args.initial_wait, args.interval, args.max_wait)
    tools = lifecycle.prepare(console, board, args.output_dir, schedule=schedule, patience=args.max_wait)
    if args.resume:
        batch.resume(tasks, tools)
    batch.generate(tasks, tools, args.concurrency)
    tools.close()
    return board.exit()


if __name__ == "__main__":
    command.run(parser(), work)
