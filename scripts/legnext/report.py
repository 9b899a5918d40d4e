"""What is printed of a task: one JSON object and one exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from legnext.errors import KINDS, Exit, Failure, Stage, exit_code, hint_for

if TYPE_CHECKING:
    from pathlib import Path

    from legnext.job import Job

NOT_SUBMITTED = "not_submitted"
_GET_TASK = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "get_task.py")


class Task:
    """One prompt or job id on its way through a run.

    Its worker changes it; whoever stops the run reads it, so each change is a single assignment.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        job_id: str | None = None,
        index: int | None = None,
        stage: Stage = Stage.NO_JOB,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Begin with what the user gave: a prompt, or a job id with the stage that fits the command."""
        self.prompt = prompt
        self.job_id = job_id
        self.index = index
        self.stage = stage
        self.warnings = warnings
        self.job: Job | None = None
        self.files: dict[str, object] | None = None
        self.submitted_at: str | None = None
        self.since: float | None = None  # when the answer to its submit came, by the monotonic clock
        self.sent = False  # a submit is out, and whether it created a job is not known
        self.given = job_id is not None  # its job was not submitted by this run
        self.trace: Path | None = None
        self.on_record: Job | None = None
        self.held_back = False  # it was never submitted, and this run will not

    @property
    def label(self) -> str:
        """How stderr names it."""
        prefix = "" if self.index is None else f"prompt {self.index}: "
        return f"{prefix}job {self.job_id}" if self.job_id else prefix.rstrip(": ") or "submit"


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
