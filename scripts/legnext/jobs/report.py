"""What is printed of a task: one JSON object and one exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from legnext.errors import Exit, Failure, Phase, exit_code, hint_for

if TYPE_CHECKING:
    from legnext.jobs.task import Task

_GET_TASK = os.path.abspath(os.path.join(__file__, "../../../get_task.py"))


class Form(NamedTuple):
    """How the objects of a run are printed, and what `resume` carries on."""

    output_dir: str | None = None
    times: tuple[str, ...] = ()  # the flags of the schedule that the caller gave, as words
    short: bool = False  # a line of a batch: all else is in the job's folder
    again: bool = False  # the same command buys anew
    told: bool = True  # all that is known of the job; imagine.py tells the id and the status


def resume_command(job_id: str, form: Form) -> str:
    """Return the shell command that goes on with a job, from any directory."""
    # uv names itself to what it runs; the interpreter it made for this run can be gone tomorrow.
    uv = os.environ.get("UV")
    words = [uv, "run", "-q"] if uv else [sys.executable or "python3"]
    words += [_GET_TASK, job_id, "--wait"]
    if form.output_dir:
        words += ["--output-dir", form.output_dir]
    return shell_line([*words, *form.times])


def shell_line(words: list[str]) -> str:
    """Return the words, quoted, as a shell takes them."""
    if os.name == "nt":
        import shutil
        import subprocess

        # cmd takes a quoted word for a command, PowerShell does not; both take a bare name first.
        name = os.path.basename(words[0])
        if " " in words[0] and shutil.which(name):
            words = [name, *words[1:]]
        return subprocess.list2cmdline(words)
    import shlex

    return shlex.join(words)


def report(task: Task, failure: Failure | None, form: Form = Form()) -> tuple[dict[str, object], Exit]:  # noqa: B008
    """Return the object to print for `task` and its exit code; `failure` None means success."""
    body = _known(task, form)
    if failure is None:
        return body, Exit.DONE
    exit_ = exit_code(failure.type, task.phase)
    resume = None
    if task.job_id and (exit_ is Exit.GO_ON or failure.type == "interrupted"):
        resume = resume_command(task.job_id, form)
    hint = hint_for(failure, task.phase, resume, repeatable=bool(form.output_dir and not form.again))
    if task.phase is Phase.SENT:
        body["submitted_at"] = task.submitted_at
        body["balance_usd"] = dict(zip(("before", "after"), task.balance, strict=True))
        if task.trace:
            hint += (
                f" {task.trace} stands for this submit: until it is deleted the prompt is not submitted "
                "again into this folder. With the user's yes to a second submit delete that one file, and "
                "run the same command."
            )
    body["error"] = failure.as_json(hint)
    if resume:
        body["resume"] = resume
    return body, exit_


def _known(task: Task, form: Form) -> dict[str, object]:
    """Return what is printed of a task beside what went wrong."""
    body: dict[str, object] = {} if task.index is None else {"index": task.index}
    job = task.job.as_json() if task.job else {"job_id": task.job_id} if task.job_id else {}
    if job:
        body.update({name: job.pop(name) for name in ("job_id", "status") if name in job})
    elif task.phase is Phase.HELD_BACK:
        body["status"] = "not_submitted"
    if task.prompt is not None:
        body["prompt"] = task.prompt
    if form.short and form.output_dir and task.job:
        if task.job.seed:
            body["seed"] = task.job.seed
        body["dir"] = os.path.join(form.output_dir, task.job.job_id)
    elif form.told or task.earlier:
        body.update(job)
        if task.files:
            body["files"] = task.files
    if task.earlier:
        body["earlier"] = True
    if task.warnings:
        body["warnings"] = list(task.warnings)
    return body


def earlier_line(task: Task, *, bought_anew: str) -> str:
    """Return what stderr says of a job that was picked up."""
    assert task.job is not None
    when = f", submitted {task.submitted_at}" if task.submitted_at else ""
    return f"{task.label} {task.job.status}: on record{when}, not bought again ({bought_anew} buys anew)"
