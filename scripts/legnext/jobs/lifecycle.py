"""One job from its prompt to its pictures: submit, record, wait, download."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from legnext.disk.output_dir import OutputDir, Record, file_error
from legnext.errors import Failure, hint_for, unexpected
from legnext.jobs.polling import Schedule, wait
from legnext.jobs.report import unknown_hint
from legnext.wire.api import Api
from legnext.wire.images import ImageHost, existing
from legnext.wire.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legnext.console import Console
    from legnext.job import Job
    from legnext.jobs.progress import Board
    from legnext.jobs.task import Task

Item = TypeVar("Item")

# A grid and its four pictures in one round trip.
IMAGES_AT_ONCE = 5


class Tools(NamedTuple):
    """What a task needs on its way; `directory` and `images` only with --output-dir."""

    api: Api
    board: Board
    schedule: Schedule = Schedule()
    patience: float = 0.0  # seconds to go on submitting where nothing was created: no connection, 429
    directory: OutputDir | None = None
    images: ImageHost | None = None

    def close(self) -> None:
        """Bring what is shown of the output directory up to date, at the end of a run."""
        if self.directory:
            self.directory.close()


def utc_now() -> str:
    """Return the time as the API writes it, such as 2025-12-24T04:24:18Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def submit(task: Task, tools: Tools) -> None:
    """Submit the task's prompt; from then on its id is on stderr and in its record.

    While a send is out a trace stands in the output directory, so that even a kill leaves a sign of it;
    once it is certain that nothing was created, it goes. Raises Failure; where the job exists, the task's
    stage says so.
    """
    assert task.prompt is not None
    prompt, submitted_at = task.prompt, utc_now()
    task.submitted_at = submitted_at

    def sent(out: bool) -> None:
        if out and tools.directory:
            task.trace = tools.directory.announce(prompt, submitted_at)
        tools.board.sending(task, out)
        if not out and tools.directory and task.trace:
            tools.directory.settle(task.trace)
            task.trace = None

    try:
        job = tools.api.submit(prompt, tools.patience, sent)
    except Failure as failure:
        if failure.type == "submission_unknown":
            failure.hint = unknown_hint(task.trace)
        raise
    task.since = time.monotonic()
    tools.board.submitted(task, job)
    with contextlib.suppress(Failure):  # the job is what counts; the next save says so if it still fails
        save(task, tools)


def save(task: Task, tools: Tools) -> None:
    """Bring the task's record up to date. Raises Failure `file_error`."""
    if tools.directory is None or task.job is None or task.job is task.on_record:
        return
    failure = job_failure(task.job)
    error = failure.as_json(hint_for(failure, task.stage, None)) if failure else None
    tools.directory.save(Record(task.job, task.prompt, task.submitted_at), error)
    task.on_record = task.job
    tools.directory.changed()
    if task.trace:
        tools.directory.settle(task.trace)
        task.trace = None


def follow(task: Task, tools: Tools) -> None:
    """Wait until the task's job has ended. Raises Failure where it cannot be waited for any longer."""
    assert task.job_id is not None
    job_id = task.job_id

    def seen(job: Job) -> None:
        changed = task.job is None or task.job.status != job.status
        tools.board.seen(task, job)
        if changed and not job.ended:
            with contextlib.suppress(Failure):  # as above
                save(task, tools)

    schedule = tools.schedule._replace(initial_wait=0.0) if task.given else tools.schedule
    wait(lambda left: tools.api.look(job_id, left), schedule, seen, since=task.since)


def look(task: Task, tools: Tools) -> None:
    """Look at the task's job once. Raises Failure."""
    assert task.job_id is not None
    tools.board.seen(task, tools.api.look_patiently(task.job_id))


def finish(task: Task, tools: Tools) -> None:
    """Put the job on record and, once completed, its images on disk.

    Raises Failure, `job_failed` among them.
    """
    job = task.job
    assert job is not None
    trouble: Failure | None = None
    try:
        save(task, tools)
    except Failure as failure:
        trouble = failure  # the images may still fit
    failed = job_failure(job)
    if failed:
        raise failed
    if job.completed and tools.directory and tools.images:
        if not job.has_images:
            raise Failure("no_images", "completed, but without images")
        task.files = download(job, tools.directory, tools.images)
    if trouble:
        raise trouble


def job_failure(job: Job) -> Failure | None:
    """Return why the job failed, or None where it did not."""
    if job.error is None:
        return None
    return Failure("job_failed", job.error.message, code=job.error.code)


def wanted(job: Job) -> dict[str, str]:
    """Return the URLs of the job's images by the names of their files, which have no extension yet."""
    urls = {str(number): url for number, url in enumerate(job.image_urls, 1)}
    return {**urls, "grid": job.image_url} if job.image_url else urls


def on_disk(job: Job, directory: OutputDir) -> dict[str, str | None]:
    """Return the absolute paths of the job's images by name, None for one that is not there whole."""
    folder = os.path.join(directory.path, job.job_id)
    return {name: existing(os.path.join(folder, name)) for name in wanted(job)}


def as_files(found: dict[str, str | None], directory: OutputDir) -> dict[str, object]:
    """Return the paths as they are printed."""
    files: dict[str, object] = {"grid": found["grid"]} if "grid" in found else {}
    files["images"] = [path for name, path in found.items() if name != "grid"]
    if directory.gallery.exists():
        files["gallery"] = str(directory.gallery)
    return files


def download(job: Job, directory: OutputDir, images: ImageHost) -> dict[str, object]:
    """Fetch what is not there yet, side by side, and return the absolute paths.

    Raises Failure of the first image, in order, that could not be had, after all have been tried.
    """
    folder = directory.path / job.job_id
    urls = wanted(job)
    failures: dict[str, Failure] = {}

    def fetch(name: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found[name] = str(images.fetch(urls[name], folder / name))
        except Failure as failure:
            failures[name] = failure
        except OSError as error:
            failures[name] = file_error("an image could not be written", error)

    found = on_disk(job, directory)
    missing = [name for name, path in found.items() if path is None]
    side_by_side(missing, fetch, IMAGES_AT_ONCE)
    if missing:
        directory.changed()
    for name in urls:
        if name in failures:
            raise failures[name]
    return as_files(found, directory)


def recall(task: Task, tools: Tools) -> None:
    """Take the prompt and the time of a job that is already on record, so that the record keeps them."""
    record = tools.directory.load(task.job_id) if tools.directory and task.job_id else None
    if record:
        task.prompt, task.submitted_at = record.prompt, record.submitted_at


def prepare(
    console: Console,
    board: Board,
    output_dir: str | None,
    *,
    schedule: Schedule = Schedule(),  # noqa: B008 - immutable
    patience: float = 0.0,
) -> Tools:
    """Make ready all that a run needs, cheapest check first; nothing is sent.

    Raises Failure where the key, the base URL, `requests` or the output directory is not usable.
    """
    trace = console.trace if console.verbose else None
    api = Api(settings(), trace)
    if output_dir is None:
        return Tools(api, board, schedule, patience)
    directory = OutputDir(output_dir, lambda line: console.say(line, always=True))
    directory.prepare()
    return Tools(api, board, schedule, patience, directory, ImageHost(trace))


def advance(task: Task, tools: Tools, *steps: Callable[[Task, Tools], None]) -> Failure | None:
    """Take the task through `steps`; return what went wrong, printed already, or None."""
    try:
        for step in steps:
            step(task, tools)
    except Failure as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - a fault of ours must not lose a job, nor hide one
        failure = unexpected(error, sent=task.sent)
    else:
        return None
    tools.board.settle(task, failure)
    return failure


def complete(task: Task, tools: Tools, *steps: Callable[[Task, Tools], None]) -> None:
    """Take the task through `steps` and print it, however they end."""
    if advance(task, tools, *steps) is None:
        tools.board.settle(task)


def side_by_side(items: Sequence[Item], work: Callable[[Item], None], limit: int) -> None:
    """Call `work` with each of `items`, in at most `limit` threads, and return when all are done.

    Raises the first exception that a call raised, at the end.
    """
    todo = deque(items)
    raised: list[BaseException] = []

    def worker() -> None:
        while True:
            try:
                item = todo.popleft()
            except IndexError:
                return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)

    threads = [Thread(target=worker, daemon=True) for _ in range(min(limit, len(items)) - 1)]
    for thread in threads:
        thread.start()
    worker()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
