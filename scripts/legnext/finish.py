"""Finishes a task: saves its job's record and pictures, writes the page, prints the task."""

import math
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legnext import gallery
from legnext.api import Client
from legnext.download import Downloader, pictures_in
from legnext.errors import Failure, attempt
from legnext.job import NORMAL_IMAGES, Job, recorded_job, without_empty
from legnext.report import GALLERY, Reporter, resume_command
from legnext.store import Store
from legnext.submit import Buyer
from legnext.task import Record, Task

FINISHERS, DOWNLOADS = 4, 8  # threads: jobs, and pictures of all of them
PICTURE_SECONDS = 600.0  # for all of a job: a host may send a byte a second
PAGE_SECONDS = 1.0  # between two pages, and ten times what the last one took


@dataclass
class Run:
    """What the threads of a run share. `buyer` is None if the tasks are jobs by their ids."""

    client: Client
    store: Store
    stop: threading.Event
    reporter: Reporter
    downloader: Downloader
    buyer: Buyer | None = None
    finishers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(FINISHERS))
    downloads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(DOWNLOADS))
    finishing: set[Future[None]] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)
    next_page: float = 0.0  # monotonic seconds
    is_page_old: bool = True  # a task has ended since the last one

    def has_all_pictures(self, task: Task) -> bool:
        """Say whether all pictures were on disk once; jobs by their ids get them again."""
        record = self.store.records.get(task.job_id, {})
        return bool(record.get("downloaded")) and not self.reporter.options.job_ids


def finish(task: Task, run: Run) -> None:
    was_complete, failure = run.has_all_pictures(task), attempt(save, task, run)
    if failure and failure.type == "file_error" and run.buyer:
        run.buyer.stop_reason = failure.message
    if task.job and task.job.has_failed:
        failure = Failure("job_failed", task.job.reason, code=task.job.code)
    run.reporter.print_task(task, failure)
    run.is_page_old |= not was_complete
    if run.is_page_old and time.monotonic() > run.next_page:
        attempt(write_page, run)


def save(task: Task, run: Run) -> None:
    """Save the record and the pictures. Raises Failure, OSError."""
    job, store = task.job, run.store
    assert job
    if job.has_few_images:
        task.warnings.append(f"{len(job.image_urls)} of normally {NORMAL_IMAGES} pictures so far")
    if store.directory is None and run.buyer:
        command = resume_command(job.job_id, run.reporter.options)
        task.warnings.append(f"URLs expire. This saves them: {command} --output-dir DIR")
    only_submits = run.buyer and not run.reporter.options.wait
    if store.directory is None or only_submits or run.has_all_pictures(task):
        return
    record = job.as_record()
    if not task.is_earlier:
        submitted_at = task.submitted_at or job.meta.get("created_at")
        record |= {"prompt": task.prompt, "submitted_at": submitted_at, "host": store.host}
    store.save(without_empty(record), run.stop)
    if job.has_succeeded:
        download(job, run, store.directory)
        if not job.has_few_images:
            store.save({"job_id": job.job_id, "status": job.status, "downloaded": True}, run.stop)


def download(job: Job, run: Run, directory: Path) -> None:
    """Download the pictures that are not on disk. Raises Failure `download_failed`, OSError."""
    existing = pictures_in(run.store.folders[job.job_id])
    futures = {
        f"{name}.png": run.downloads.submit(attempt, download_one, job, name, url, directory, run)
        for name, url in job.urls.items()
        if name not in existing
    }
    done, _ = wait(futures.values(), PICTURE_SECONDS)
    late = Failure("download_failed", f"not finished in {PICTURE_SECONDS:g} s")
    ends = {name: future.result() if future in done else late for name, future in futures.items()}
    if failed := {name: failure for name, failure in ends.items() if failure}:
        first = next(iter(failed.values()))
        words = f"{', '.join(failed)} could not be saved: {first.message}"
        raise Failure(first.type, words, code=first.code)


def download_one(job: Job, name: str, url: str, directory: Path, run: Run) -> None:
    content, extension = run.downloader.fetch(url)
    directory.mkdir(parents=True, exist_ok=True)  # it may have been moved away
    partial = directory / f".{secrets.token_hex(4)}.part"
    try:
        partial.write_bytes(content)
        while not run.store.place_file(partial, job.job_id, f"{name}.{extension}"):
            run.store.save(job.as_record(), run.stop)  # the folder was deleted
    finally:
        partial.unlink(missing_ok=True)


def write_page(run: Run) -> None:
    """Write the page of all jobs, whose failures do not matter. Raises OSError."""
    began, store = time.monotonic(), run.store
    run.next_page, run.is_page_old = math.inf, False  # one thread writes it
    records = [*store.records.values(), *store.foreign.values()]
    try:
        entries = [entry for record in records if (entry := page_entry(record, run))]
        if store.directory and entries:
            page = store.directory / GALLERY
            gallery.write(page, entries)
            run.reporter.page = page
    finally:
        run.next_page = time.monotonic() + PAGE_SECONDS + 10 * (time.monotonic() - began)


def page_entry(record: Record, run: Run) -> dict[str, Any] | None:
    job = recorded_job(record)
    folder = run.store.folders.get(job.job_id)
    if folder is None or not folder.is_dir():
        return None
    found, is_done = pictures_in(folder), job.has_failed or record.get("downloaded")
    return {
        **record,
        "status": job.status,
        "folder": folder.name,
        "pictures": {n: found.get(n) for n in {**job.urls, **found}},
        "urls": job.urls,
        "resume": None if is_done else resume_command(job.job_id, run.reporter.options),
    }
