#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Look at Midjourney jobs by their ids, or go on with them: wait until they end, download their images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnext.cli import arguments, command
from legnext.errors import Failure, Stage

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.console import Console
    from legnext.errors import Exit
    from legnext.jobs.progress import Board

LOOKS_AT_ONCE = 6


def parser() -> arguments.Parser:
    """Return the command line."""
    it = arguments.Parser(
        __doc__, "get_task.py 89fc70ee-0357-4dab-98e7-d3383e2efd1b --wait --output-dir pictures"
    )
    it.add_argument(
        "job_ids", metavar="JOB_ID", nargs="+", help="a job's id, a UUID; several are printed in order"
    )
    it.add_argument("--wait", action="store_true", help="wait until each job has ended, instead of one look")
    it.add_output_dir("directory for records and images: DIR/<job_id>/job.json, grid.png, 1.png to 4.png")
    it.add_schedule("the first look")
    return it


def work(args: Namespace, console: Console, board: Board) -> Exit:
    """Look at each job, or wait for it; print them in the order given."""
    from legnext.job import is_job_id
    from legnext.jobs import lifecycle  # not needed for --help
    from legnext.jobs.polling import Schedule
    from legnext.jobs.task import Task

    for job_id in args.job_ids:
        if not is_job_id(job_id):
            raise Failure(
                "usage",
                f"{job_id!r} is not a job id, which is a UUID such as 89fc70ee-0357-4dab-98e7-d3383e2efd1b",
                hint="Nothing was sent. Give the job_id that imagine.py or generate_and_wait.py printed.",
            )
    stage = Stage.WAITING if args.wait else Stage.LOOKING
    tasks = [Task(job_id=job_id, stage=stage) for job_id in args.job_ids]
    board.begin(tasks, output_dir=args.output_dir, in_order=True)
    schedule = Schedule(0.0, args.interval, args.max_wait)
    tools = lifecycle.prepare(console, board, args.output_dir, schedule=schedule)
    for task in tasks:
        lifecycle.recall(task, tools)

    step = lifecycle.follow if args.wait else lifecycle.look
    lifecycle.side_by_side(
        tasks, lambda task: lifecycle.complete(task, tools, step, lifecycle.finish), LOOKS_AT_ONCE
    )
    tools.close()
    return board.exit()


if __name__ == "__main__":
    command.run(parser(), work)
