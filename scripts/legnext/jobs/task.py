"""One prompt or job id on its way through a run, and what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnext.errors import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from legnext.job import Job


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
