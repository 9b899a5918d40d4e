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

legnext.note_signals()

from argparse import Namespace
from threading import Event

from legnext import cli, workflow
from legnext.errors import Failure
from legnext.report import Reporter
from legnext.workflow import CONCURRENCY, INITIAL_WAIT, INTERVAL, MAX_WAIT, Schedule

COMMAND = "uv run scripts/generate_and_wait.py"
PARSER = cli.Parser(
    __doc__,
    "0 1 2 3 4 5 6 7 129 130 143",
    f'{COMMAND} "a lighthouse at dawn --ar 16:9" --output-dir pictures',
    f"printf 'a fox\\nan owl\\n' | {COMMAND} --prompts-file - --output-dir pictures",
)
add = PARSER.add_argument
add("prompt", metavar="PROMPT", nargs="?", help="the whole prompt, in quotes; - for stdin")
add("--prompts-file", metavar="FILE", help="one prompt per line, or JSON Lines; - for stdin")
PARSER.add_output_dir(
    "folder for pictures; prompts already bought there are reused; without it you get links that "
    "expire"
)
PARSER.add_buying()
PARSER.add_switch("--retry-failed", "buy jobs again that are on record as failed")
WORDS = "jobs that may be unfinished at once"
PARSER.add_value("--concurrency", "JOBS", cli.jobs_at_once, WORDS, CONCURRENCY)
PARSER.add_seconds("--initial-wait", INITIAL_WAIT, "seconds before the first status check")
PARSER.add_seconds("--interval", INTERVAL, "seconds between two status checks")
PARSER.add_seconds("--max-wait", MAX_WAIT, "seconds to wait for a job, from its submit")


def generate(args: Namespace, reporter: Reporter, stop: Event) -> None:
    """Make the pictures of one prompt, or of each prompt in a file."""
    if (args.prompts_file is None) == (args.prompt is None):
        raise Failure("usage", "give either one PROMPT, in quotes, or --prompts-file FILE")
    if args.prompts_file is None:
        prompts = cli.read_prompt(args.prompt)
    else:
        prompts = cli.read_prompts(args.prompts_file)
    schedule = Schedule(args.initial_wait, args.interval, args.max_wait)
    options = {"concurrency": args.concurrency, "waiting_flags": args.waiting_flags}
    workflow.buy(cli.order_of(args, prompts), reporter, stop, schedule, **options)


if __name__ == "__main__":
    cli.main(PARSER, generate)
