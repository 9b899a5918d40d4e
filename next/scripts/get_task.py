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

legnext.note_signals()  # before the other imports: Ctrl-C during those is JSON too

from threading import Event

from legnext import cli, workflow
from legnext.errors import Failure
from legnext.job import A_JOB_ID, is_job_id
from legnext.options import Options
from legnext.report import Reporter

EXAMPLE = "uv run scripts/get_task.py 89fc70ee-0357-4dab-98e7-d3383e2efd1b"
PARSER = cli.Parser(
    __doc__,
    "0 2 3 5 6 129 130 143",
    ("--output-dir", "--wait", "--interval", "--max-wait"),
    f"{EXAMPLE} --wait --output-dir pictures",
    "uv run scripts/get_task.py --output-dir pictures",
)
WORDS = "ids of jobs; without one: all jobs in --output-dir"
PARSER.add_argument("job_ids", metavar="JOB_ID", nargs="*", help=WORDS)


def get_task(options: Options, reporter: Reporter, stop: Event) -> None:
    """Print the jobs in the order given, or those on record, oldest first."""
    job_ids = options.job_ids or []
    for job_id in job_ids:
        if not is_job_id(job_id):
            raise Failure("usage", f"{job_id!r} is not a job id, which is {A_JOB_ID}")
    if not job_ids and options.output_dir is None:
        raise Failure("usage", "give a JOB_ID, or --output-dir for all jobs on record there")
    workflow.follow(job_ids, reporter, stop, waits=options.wait)


if __name__ == "__main__":
    cli.main(PARSER, get_task)
