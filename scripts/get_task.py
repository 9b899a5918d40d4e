#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
# ruff: noqa: E402
"""Show Midjourney jobs by their ids, or all of a folder; wait for them, save their pictures."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # python -P omits it
import legnext

legnext.note_signals()

from legnext import cli, workflow

COMMAND = "uv run scripts/get_task.py"
PARSER = cli.Parser(
    __doc__,
    "0 2 3 5 6",
    ("--output-dir", "--wait", "--interval", "--max-wait"),
    f"{COMMAND} 89fc70ee-0357-4dab-98e7-d3383e2efd1b --wait --output-dir pictures",
    f"{COMMAND} --output-dir pictures",
)
PARSER.add_argument("job_ids", metavar="JOB_ID", nargs="*", help="none: all jobs in --output-dir")

if __name__ == "__main__":
    cli.main(PARSER, workflow.run_jobs)
