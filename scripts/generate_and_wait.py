#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Make Midjourney pictures with Legnext: submit, wait, print the finished job, put its images in a folder."""

from typing import TYPE_CHECKING

from legnext.cli import arguments, command
from legnext.errors import Exit, Failure

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.jobs.progress import Progress


def parser() -> "arguments.Parser":
    """Return the command line."""
    it = arguments.Parser(
        __doc__,
        'uv run scripts/generate_and_wait.py "a lighthouse at dawn --ar 16:9" --output-dir pictures',
        "printf '%s\\n' 'a red fox' 'an owl --ar 1:1' | "
        "uv run scripts/generate_and_wait.py --prompts-file - --output-dir pictures",
    )
    it.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs="?",
        help="the whole prompt in quotes, with its parameters; - for stdin",
    )
    it.add_argument("--prompts-file", metavar="FILE", help="several prompts, one per line; - for stdin")
    it.add_output_dir(
        "directory for records, images and a gallery page; what it has on record of these prompts is picked "
        "up, from whatever command, and not bought again; without it only URLs, which expire"
    )
    it.add_argument(
        "--retry-failed",
        action="store_true",
        help="submit again what --output-dir has on record as failed, instead of reporting it",
    )
    it.add_argument(
        "--concurrency",
        metavar="JOBS",
        type=arguments.at_once,
        default=arguments.ACCOUNT_LIMIT,
        help="jobs that may be unfinished at once (default: %(default)s, the account limit)",
    )
    it.add_initial_wait()
    it.add_schedule("the submit")
    it.add_time_limit()
    it.add_buying()
    return it


def work(args: "Namespace", console: "Console", progress: "Progress") -> "Exit":
    """Check every prompt, then make the pictures of all of them."""
    from legnext.cli import inputs
    from legnext.cli.buying import prepared
    from legnext.jobs.polling import Schedule

    if (args.prompt is None) == (args.prompts_file is None):
        raise Failure("usage", "give either one PROMPT, in quotes, or --prompts-file FILE")
    if args.prompts_file is not None:
        prompts = inputs.read_prompts(args.prompts_file)
    else:
        prompts = [inputs.read_prompt(args.prompt)]
    schedule = Schedule(args.initial_wait, args.interval, args.max_wait)
    ready = prepared(args, console, progress, prompts, patience=args.max_wait, schedule=schedule)
    if ready:
        from legnext.jobs.batch import generate

        generate(*ready, args.concurrency, budget=args.budget, check_balance=not args.no_check)
    return progress.exit()


if __name__ == "__main__":
    command.run(parser(), work)
