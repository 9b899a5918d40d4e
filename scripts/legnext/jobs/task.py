"""One prompt or job id on its way through a run, and what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legnext.errors import Phase

if TYPE_CHECKING:
    from pathlib import Path

    from legnext.job import Job


class Task:
    """A prompt to be submitted, or a job's id to be looked at.

    Its worker changes it; whoever stops the run reads it, so each change is a single assignment, and what a
    failure means follows from `phase` alone.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        job_id: str | None = None,
        index: int | None = None,
        phase: Phase = Phase.NEW,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Begin with what the user gave: a prompt, or a job id with the phase that fits the command."""
        self.prompt = prompt
        self.job_id = job_id
        self.index = index
        self.phase = phase
        self.warnings = warnings
        self.job: Job | None = None
        self.earlier = False  # its job was found in the output directory
        self.submitted_at: str | None = None
        self.since: float | None = None  # when the answer to its submit came, by the monotonic clock
        self.on_record: Job | None = None  # the job as its record has it
        self.files: dict[str, object] | None = None
        # Of a submit whose outcome is not known: what stands for it, and the balance in USD around it.
        self.trace: Path | None = None
        self.balance: tuple[float | None, float | None] = (None, None)

    @property
    def label(self) -> str:
        """How stderr names it."""
        prefix = "" if self.index is None else f"prompt {self.index}: "
        return f"{prefix}job {self.job_id}" if self.job_id else prefix.rstrip(": ") or "submit"

    def found(self, job: Job, prompt: str | None, submitted_at: str | None) -> None:
        """Take on a job from its record."""
        self.on_record, self.prompt, self.submitted_at = job, prompt, submitted_at
        self.job, self.job_id, self.earlier, self.phase = job, job.job_id, True, Phase.KNOWN
