"""The Task: one prompt, or one job id, and what this run knows of it.

One thread at a time owns it: its worker, then the one that finishes it.
"""

from pathlib import Path
from typing import Any

from legnext.errors import Failure
from legnext.job import Job, recorded_job, usd

Record = dict[str, Any]  # a job.json


class Task:
    """All that is printed of a prompt or a job is derived from here."""

    prompt = ""  # as it is sent
    typed = ""  # as given, if that differs
    price_usd: float | None = None
    approved = False  # by the plan: may be bought, once

    job: Job | None = None
    submitted_at = ""
    bought_at = 0.0  # by this run, in monotonic seconds
    is_submitting = False  # a POST is out
    outcome_unknown = False  # a POST may have made a job
    intent: Path | None = None  # of its submit
    replaces_failed = False  # --retry-failed: failed records do not answer it
    error: Failure | None = None

    def __init__(self, index: int | None, *, name: str = "", job_id: str = "") -> None:
        self.index = index  # in the prompts file, from 0
        self.name = name  # for the job's folder
        self.job_id = job_id
        self.record: Record = {}  # if the job was on record
        self.balance: dict[str, float | None] = {}  # USD, before and after
        self.warnings: list[str] = []

    @property
    def is_earlier(self) -> bool:
        return bool(self.record)

    def set_job(self, job: Job) -> None:
        """Set the job. The id comes first: a signal in between must not lose it."""
        self.job_id, self.job = job.job_id, job

    def adopt(self, record: Record) -> None:
        """Set a job on record; what would be sent now stays as it is."""
        self.record, self.submitted_at = record, str(record.get("submitted_at") or "")
        self.set_job(recorded_job(record))

    def set_submit(self, submit: Record) -> None:
        self.submitted_at = str(submit.get("submitted_at", ""))
        self.price_usd = usd(submit.get("price_usd"))
        self.balance = {"before": usd(submit.get("balance_usd"))}

    def replace_failed_job(self) -> None:
        """Forget the failed job, so that another one is bought."""
        self.job, self.job_id, self.record, self.submitted_at = None, "", {}, ""
        self.replaces_failed = True

    def __str__(self) -> str:
        index = "" if self.index is None else f" {self.index}"
        if not self.job_id:
            return f"prompt{index}"
        status = f" {self.job.status}" if self.job else ""
        return f"job {self.job_id}{status}" + (index and f" (prompt{index})")
