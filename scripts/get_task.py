#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Look at Midjourney jobs by their ids, or go on with them: wait until they end, download their images."""

from typing import TYPE_CHECKING

from legnext.cli import arguments, command
from legnext.errors import Failure, Phase

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.errors import Exit
    from legnext.jobs.progress import Progress


def parser() -> "arguments.Parser":
    """Return the command line."""
    it = arguments.Parser(
        __doc__,
        "uv run scripts/get_task.py 89fc70ee-0357-4dab-98e7-d3383e2efd1b --wait --output-dir pictures",
    )
    it.add_argument("job_ids", metavar="JOB_ID", nargs="+", help="a job's id; several are printed in order")
    it.add_argument("--wait", action="store_true", help="wait until each job has ended, instead of one look")
    it.add_output_dir("directory for records and images: DIR/<job_id>/job.json, grid.png, 1.png to 4.png")
    it.add_schedule("the first look")
    it.add_time_limit()
    return it


def work(args: "Namespace", console: "Console", progress: "Progress") -> "Exit":
    """Look at each job, or wait for it; print them in the order given."""
    from legnext.job import A_JOB_ID, is_job_id
    from legnext.jobs import batch, lifecycle
    from legnext.jobs.polling import Schedule
    from legnext.jobs.report import Form
    from legnext.jobs.task import Task

    for job_id in args.job_ids:
        if not is_job_id(job_id):
            raise Failure(
                "usage",
                f"{job_id!r} is not a job id, which is {A_JOB_ID}",
                hint="Nothing was sent. Give the job_id that imagine.py or generate_and_wait.py printed.",
            )
    phase = Phase.FOLLOWED if args.wait else Phase.ASKED
    tasks = [Task(job_id=job_id, phase=phase) for job_id in args.job_ids]
    form = Form(args.output_dir, args.times)
    progress.begin(tasks, form, in_order=True)
    run = lifecycle.prepare(
        console, progress, form, schedule=Schedule(0.0, args.interval, args.max_wait), limit=args.limit
    )
    batch.look_at(tasks, run, lifecycle.follow if args.wait else lifecycle.look)
    return progress.exit()


if __name__ == "__main__":
    command.run(parser(), work)
