#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Show Midjourney jobs by their ids, or all of a folder; wait for them, save their pictures."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # not there with python -P, -I
import legnext

legnext.note_signals()

from argparse import Namespace
from threading import Event

from legnext import cli, workflow
from legnext.errors import Failure
from legnext.job import A_JOB_ID, is_job_id
from legnext.report import Reporter
from legnext.workflow import INTERVAL, MAX_WAIT, Schedule

EXAMPLE = "uv run scripts/get_task.py 89fc70ee-0357-4dab-98e7-d3383e2efd1b"
PARSER = cli.Parser(
    __doc__,
    "0 2 3 5 6 129 130 143",
    f"{EXAMPLE} --wait --output-dir pictures",
    "uv run scripts/get_task.py --output-dir pictures",
)
WORDS = "ids of jobs; without one: all jobs in --output-dir"
PARSER.add_argument("job_ids", metavar="JOB_ID", nargs="*", help=WORDS)
PARSER.add_switch("--wait", "wait until each job is over")
PARSER.add_output_dir("folder for pictures and records")
PARSER.add_seconds("--interval", INTERVAL, "seconds between two status checks")
PARSER.add_seconds("--max-wait", MAX_WAIT, "seconds to wait, from now")


def get_task(args: Namespace, reporter: Reporter, stop: Event) -> None:
    """Print the jobs in the order given, or those on record, oldest first."""
    for job_id in args.job_ids:
        if not is_job_id(job_id):
            raise Failure("usage", f"{job_id!r} is not a job id, which is {A_JOB_ID}")
    if not args.job_ids and args.output_dir is None:
        raise Failure("usage", "give a JOB_ID, or --output-dir for all jobs on record there")
    schedule = Schedule(0.0, args.interval, args.max_wait) if args.wait else None
    flags = args.waiting_flags
    workflow.follow(args.job_ids, args.output_dir, reporter, stop, schedule, waiting_flags=flags)


if __name__ == "__main__":
    cli.main(PARSER, get_task)
