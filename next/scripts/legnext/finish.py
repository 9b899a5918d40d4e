"""Finishes a task: saves its job's record and pictures, writes the page, prints the task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnext import gallery
from legnext.download import Downloader, describe_files, pictures_in
from legnext.errors import Failure, as_failure
from legnext.job import NORMAL_IMAGES, Job, recorded_job
from legnext.report import Reporter, resume_command
from legnext.store import Store
from legnext.task import Record, Task

PAGE_SECONDS = 1.0  # between two pages at least: to write one takes longer, the more jobs there are
PAGE_SHARE = 10  # and so many times as long as the last one took


def attempt(step: Callable[..., object], *args: object) -> Failure | None:
    """Carry out a step and return why it failed, if it did."""
    try:
        step(*args)
    except Exception as error:  # noqa: BLE001 - a bug of ours must not hide a job
        return as_failure(error)
    return None


@dataclass
class Finisher:
    """What finishing needs. Threads share it."""

    store: Store
    reporter: Reporter
    downloader: Downloader
    stop: threading.Event
    pool: Executor  # for the pictures
    buys: bool = False
    downloads: bool = True  # else the jobs are only submitted
    refetch: bool = False  # fetch again what a person has deleted
    _next_page: float = 0.0  # monotonic seconds

    def is_complete(self, task: Task) -> bool:
        """Say whether all pictures of a job have been on disk, so that nothing is left to do."""
        record = self.store.records.get(task.job_id, {})
        return bool(record.get("downloaded")) and not self.refetch

    def finish(self, task: Task) -> None:
        """Save the job and its pictures, and print the task."""
        failure = attempt(self._save, task)
        if task.job and task.job.has_failed:
            failure = Failure("job_failed", task.job.reason, code=task.job.code)
        self.end(task, failure)

    def end(self, task: Task, failure: Failure | None) -> None:
        """Print a task with the pictures that it has on disk."""
        trouble = attempt(self._describe, task)
        self.reporter.end(task, failure or trouble)
        if task.folder:
            self.write_page(PAGE_SECONDS)

    def _describe(self, task: Task) -> None:
        directory = self.store.directory
        task.folder = self.store.folders.get(task.job_id)
        if task.job and directory:
            task.files = describe_files(task.folder, task.job)
            if task.files:
                task.files["gallery"] = str(directory / gallery.NAME)

    def _save(self, task: Task) -> None:
        """Save the record and the pictures. Raises Failure, OSError."""
        job, directory = task.job, self.store.directory
        assert job
        if job.has_few_images:
            words = f"{len(job.image_urls)} pictures so far, where {NORMAL_IMAGES} are normal"
            task.warnings.append(words)
        if directory is None:
            if self.buys:
                command = resume_command(job.job_id, self.reporter.options)
                task.warnings.append(f"URLs expire. This saves them: {command} --output-dir DIR")
            return
        if not self.downloads or self.is_complete(task):
            return
        beyond_api = {} if task.is_earlier else self._beyond_api(task, job)
        self.store.save({**beyond_api, **job.as_record()}, self.stop)
        if job.has_succeeded:
            self._download(job, directory)
            if not job.has_few_images:
                done = {"job_id": job.job_id, "status": job.status, "downloaded": True}
                self.store.save(done, self.stop)

    def _beyond_api(self, task: Task, job: Job) -> Record:
        """Return what is recorded of a job that the API does not know."""
        known = {
            "prompt": task.prompt,
            "submitted_at": task.submitted_at or job.meta.get("created_at"),
            "host": self.store.host,
        }
        return {name: value for name, value in known.items() if value}

    def _download(self, job: Job, directory: Path) -> None:
        """Download the pictures that are not on disk. Raises Failure `download_failed`, OSError."""
        existing = pictures_in(self.store.folders[job.job_id])
        wanted = {name: url for name, url in job.urls.items() if name not in existing}
        futures = {
            name: self.pool.submit(attempt, self._download_one, job, name, url, directory)
            for name, url in wanted.items()
        }
        failures = {f"{name}.png": future.result() for name, future in futures.items()}
        failed = {name: failure for name, failure in failures.items() if failure}
        if failed:
            first = next(iter(failed.values()))
            words = f"{', '.join(failed)} could not be saved: {first.message}"
            raise Failure(first.type, words, code=first.code)

    def _download_one(self, job: Job, name: str, url: str, directory: Path) -> None:
        partial, extension = self.downloader.fetch(url, directory)
        try:
            while not self.store.place_file(partial, job.job_id, f"{name}.{extension}"):
                self.store.save(job.as_record(), self.stop)  # somebody has deleted the folder
        finally:
            partial.unlink(missing_ok=True)

    def write_page(self, pause: float = 0.0) -> None:
        """Write the page of all jobs, if that is due. It is a convenience: no failure matters."""
        began, directory = time.monotonic(), self.store.directory
        if directory is None or (pause and began < self._next_page):
            return
        self._next_page = began + PAGE_SECONDS
        records = [*self.store.records.values(), *self.store.foreign.values()]
        entries = [entry for record in records if (entry := self._page_entry(record))]
        failure = attempt(gallery.write, directory, entries) if entries else None
        if failure:
            self.reporter.say(f"{gallery.NAME}: {failure.message}")
        elif entries:
            self.reporter.page = directory / gallery.NAME
        took = time.monotonic() - began
        self._next_page = began + max(PAGE_SECONDS, PAGE_SHARE * took)

    def _page_entry(self, record: Record) -> dict[str, Any] | None:
        """Return what the page shows of a job, None if its folder is gone."""
        job = recorded_job(record)
        folder = self.store.folders.get(job.job_id)
        if folder is None or not folder.is_dir():
            return None
        found = pictures_in(folder)
        names = {**job.urls, **found}
        resume = None if job.is_final else resume_command(job.job_id, self.reporter.options)
        return {
            **record,
            "status": job.status,
            "folder": folder.name,
            "pictures": {name: found[name].name if name in found else None for name in names},
            "urls": job.urls,
            "resume": resume,
            "downloaded": bool(record.get("downloaded")),
        }
