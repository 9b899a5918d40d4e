"""What is printed of a task: one JSON object and one exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from legnext.errors import KINDS, Exit, Failure, exit_code, hint_for

if TYPE_CHECKING:
    from pathlib import Path

    from legnext.jobs.task import Task


NOT_SUBMITTED = "not_submitted"
_GET_TASK = os.path.abspath(os.path.join(__file__, "../../../get_task.py"))


def resume_command(job_id: str, output_dir: str | None) -> str:
    """Return the shell command that goes on with a job, from any directory."""
    # uv names itself to what it runs; the interpreter it made for this run can be gone tomorrow.
    uv = os.environ.get("UV")
    words = [uv, "run"] if uv else [sys.executable or "python3"]
    words += [_GET_TASK, job_id, "--wait"]
    if output_dir:
        words += ["--output-dir", output_dir]
    return shell_line(words)


def shell_line(words: list[str]) -> str:
    """Return the words, quoted, as a shell takes them."""
    if os.name == "nt":
        import subprocess

        return subprocess.list2cmdline(words)
    import shlex  # most runs print no command

    return shlex.join(words)


def unknown_hint(trace: Path | None) -> str:
    """Return how to settle a submit whose outcome nobody knows, and which left `trace`."""
    hint = KINDS["submission_unknown"].hint
    if trace is None:
        return hint
    return (
        f"{hint} {trace} stands for it: until it is deleted, --resume will not submit this prompt "
        "(a run without --resume would)."
    )


def report(
    task: Task, failure: Failure | None, output_dir: str | None = None
) -> tuple[dict[str, object], Exit]:
    """Return the object to print for `task` and its exit code; `failure` None means success."""
    body: dict[str, object] = {}
    if task.index is not None:
        body["index"] = task.index
    job = task.job.as_json() if task.job else {"job_id": task.job_id} if task.job_id else {}
    if job:
        body.update({name: job.pop(name) for name in ("job_id", "status") if name in job})
    elif task.held_back:
        body["status"] = NOT_SUBMITTED
    if task.prompt is not None:
        body["prompt"] = task.prompt
    body.update(job)
    if task.files:
        body["files"] = task.files
    if task.warnings:
        body["warnings"] = list(task.warnings)
    if failure is None:
        return body, Exit.DONE
    exit_ = exit_code(failure.type, task.stage)
    resume = None
    if task.job_id and (exit_ is Exit.GO_ON or failure.type == "interrupted"):
        resume = resume_command(task.job_id, output_dir)
    body["error"] = failure.as_json(hint_for(failure, task.stage, resume))
    if resume:
        body["resume"] = resume
    return body, exit_
