"""The flags of the four scripts with their defaults."""

from argparse import Namespace
from pathlib import Path

from legnext.errors import SAME


class Options(Namespace):
    """What a command asks for. Times are in seconds; the defaults are Legnext's."""

    prompt: str | None = None
    prompts_file: str | None = None
    job_ids: list[str] | None = None  # [] lists all jobs on record
    output_dir: Path | None = None
    again: bool = False
    retry_failed: bool = False
    budget: float | None = None  # USD
    dry_run: bool = False
    no_check: bool = False
    concurrency: int = 6  # what a standard account runs at once
    wait: bool = False  # else jobs are only submitted, or polled once
    initial_wait: float = 10.0
    interval: float = 5.0
    max_wait: float = 180.0
    quiet: bool = False
    verbose: bool = False
    version: bool = False
    waiting_flags: tuple[str, ...] = ()  # as given: ("--max-wait", "60")

    @property
    def lists_all(self) -> bool:
        return self.job_ids == []

    @property
    def repetition(self) -> str:
        """What hints say for SAME, so that nothing is bought twice."""
        if self.is_batch and (self.again or not self.output_dir):
            return "a command with only the prompts that have no job_id"
        return f"{SAME}{' without --retry-failed' * self.retry_failed}"

    @property
    def is_batch(self) -> bool:
        """Whether there is a total; the objects are short lines if there is a folder."""
        return self.prompts_file is not None or self.lists_all
