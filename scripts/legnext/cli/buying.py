"""From prompts to tasks that may be submitted: what imagine.py and generate_and_wait.py have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from legnext.cli import inputs
from legnext.errors import Phase
from legnext.jobs.report import Form

if TYPE_CHECKING:
    from argparse import Namespace

    from legnext.cli.inputs import Rejected
    from legnext.console import Console
    from legnext.jobs.lifecycle import Run
    from legnext.jobs.polling import Schedule
    from legnext.jobs.progress import Progress
    from legnext.jobs.task import Task


def prepared(
    args: Namespace,
    console: Console,
    progress: Progress,
    prompts: list[str],
    *,
    patience: float,
    schedule: Schedule | None = None,
) -> tuple[list[Task], Run] | None:
    """Check every prompt and look up what is on record; return what `batch.generate` takes.

    `patience`: seconds to go on submitting where nothing was created. Without a `schedule` nothing is waited
    for. Returns None where all there is to say has been printed: refused prompts, a dry run. Raises Failure.
    """
    many = getattr(args, "prompts_file", None) is not None
    tasks, rejected = inputs.check(prompts, parameters=not args.no_check, indexed=many)
    short = many and args.output_dir is not None
    form = Form(args.output_dir, args.times, short=short, again=args.again, told=schedule is not None)
    if args.dry_run:
        _dry_run(args, console, progress, tasks, rejected)
        return None
    if rejected:
        progress.begin([one.task for one in rejected], form)
        for one in rejected:
            progress.end(*one)
        return None

    from legnext.jobs import batch, lifecycle

    progress.begin(tasks, form)
    run = lifecycle.prepare(
        console, progress, form, schedule=schedule, patience=patience, limit=args.limit, again=args.again
    )
    if run.directory:
        batch.pick_up(tasks, run.directory, again=args.again, retry_failed=_retry_failed(args))
    return tasks, run


def _retry_failed(args: Namespace) -> bool:
    return bool(getattr(args, "retry_failed", False))


def _dry_run(
    args: Namespace,
    console: Console,
    progress: Progress,
    tasks: list[Task],
    rejected: list[Rejected],
) -> None:
    """Print what the run would do with each prompt, refused ones between the others, and the sum."""
    from legnext.jobs.price import over_budget, price

    refused = {one.task: one.failure for one in rejected}
    progress.begin(list(refused), Form(args.output_dir))
    if args.output_dir and os.path.isdir(args.output_dir):
        from legnext.disk.output_dir import OutputDir
        from legnext.jobs.batch import pick_up

        directory = OutputDir(args.output_dir, lambda line: console.say(line, always=True))
        sound = [task for task in tasks if task not in refused]
        pick_up(sound, directory, again=args.again, retry_failed=_retry_failed(args), drop=False)
    cost = price(task.prompt for task in tasks if task not in refused and task.phase is Phase.NEW)
    too_much = over_budget(cost, args.budget) if cost.jobs else None
    if too_much and len(tasks) == 1:
        tasks[0].warnings += (f"nothing would be submitted: {too_much.message}",)
    count = dict.fromkeys(("submit", "pick_up", "report_failed", "ask", "refused"), 0)
    for task in tasks:
        would = "refused" if task in refused else inputs.would(task)
        count[would] += 1
        if task in refused:
            progress.end(task, refused[task])
        else:
            console.emit(inputs.planned(task, would, price([task.prompt])))
    if any(task.index is not None for task in tasks):
        total: dict[str, object] = {"prompts": len(tasks), **count, "cost": cost.as_json()}
        if too_much:
            total["warnings"] = [f"nothing would be submitted: {too_much.message}"]
        console.emit({"dry_run": True, "total": total})
