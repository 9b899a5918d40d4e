"""One job from its prompt to its pictures: submit, record, wait, download.

Whatever is known is put where a kill cannot take it before the next step is begun: the trace before the
send, the id on stderr and in its record before the first look.
"""

from __future__ import annotations

import contextlib
import gc
import time
from typing import TYPE_CHECKING, NamedTuple

from legnext.disk.output_dir import OutputDir, Record, Reservation, Trace, file_error
from legnext.errors import KINDS, Failure, Phase, hint_for, unexpected
from legnext.jobs.polling import Limit, Schedule, wait
from legnext.jobs.report import Form, resume_command
from legnext.wire.api import SUBMIT_SECONDS, Api
from legnext.wire.images import ImageHost
from legnext.wire.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from legnext.console import Console
    from legnext.disk.gallery import Gallery
    from legnext.disk.output_dir import Picture
    from legnext.job import Job
    from legnext.jobs.progress import Progress
    from legnext.jobs.task import Task

# A grid and its four pictures in one round trip.
IMAGES_AT_ONCE = 5
# How often a submit of another run that is under way is asked after, in seconds.
_ASK_AFTER = 0.1


class Run(NamedTuple):
    """What the tasks of a run share; without `schedule` no job is waited for.

    `directory`, `gallery`, `images` and `fetching` (the threads that fetch images) only with --output-dir.

    `patience`: seconds to go on submitting where nothing was created (no connection, 429). `last_submit`:
    when, by the monotonic clock, no submit is begun any more: what --time-limit cuts off is paid for unseen.
    """

    api: Api
    progress: Progress
    schedule: Schedule | None = None
    patience: float = 0.0
    last_submit: float | None = None
    again: bool = False
    directory: OutputDir | None = None
    gallery: Gallery | None = None
    images: ImageHost | None = None
    fetching: Executor | None = None

    def close(self) -> None:
        """Bring what is shown of the output directory up to date, at the end of a run."""
        if self.gallery:
            self.gallery.close()


class _Known(Exception):  # noqa: N818 - a state of affairs
    """Another run has submitted the prompt meanwhile."""


def utc_now() -> str:
    """Return the time as the API writes it, such as 2025-12-24T04:24:18Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def submit(task: Task, run: Run, balance: float | None = None) -> None:
    """Submit the task's prompt; from then on its id is on stderr and in its record.

    While a send is out its trace is held, so that another run waits for it and even a kill leaves a sign of
    it. A job that another run has made of the prompt meanwhile is picked up instead. `balance` is what there
    was before, in USD. Raises Failure; the task's phase says whether a job may exist.
    """
    assert task.prompt is not None
    prompt = task.prompt
    reservation: Reservation | None = None

    def sending(out: bool) -> None:
        nonlocal reservation
        if out:
            if run.directory:
                reservation = _reserve(task, run, run.directory)
                task.submitted_at = _moment_after(reservation.after)
            else:
                task.submitted_at = utc_now()
            # Only now: another run's submit may have been waited for.
            if run.last_submit is not None and time.monotonic() > run.last_submit:
                if reservation:
                    reservation.answered()
                hold_back(task)
                raise Failure("timeout", "too little time is left within --time-limit to submit")
            if reservation:
                task.trace = reservation.path
                reservation.announce(prompt, task.submitted_at, balance)
            run.progress.sending(task, reservation.sent if reservation else lambda: None)
            return
        run.progress.not_sent(task)
        task.trace = None
        if reservation:
            reservation.answered()

    def leave_trace() -> None:
        if reservation and run.directory:
            if task.phase in (Phase.SENT, Phase.KNOWN):
                run.directory.take(reservation.path)  # before another prompt of this run can meet it
            reservation.let_go()

    task.balance = (balance, None)
    try:
        job = run.api.submit(prompt, run.patience, sending)
    except _Known:
        return
    except BaseException:
        leave_trace()
        raise
    task.since = time.monotonic()
    run.progress.submitted(task, job)
    try:
        _record(task, run)
    except Failure:
        leave_trace()
        return  # the job is what counts; the next save says so if it still fails
    if reservation:
        reservation.answered()
        task.trace = None
    if run.gallery:
        run.gallery.changed()


def _reserve(task: Task, run: Run, directory: OutputDir) -> Reservation:
    """Return the right to submit. Raises _Known where another run has done it, Failure where nobody knows."""
    assert task.prompt is not None
    until = time.monotonic() + max(run.patience, SUBMIT_SECONDS)
    told = False
    while True:
        found = directory.reserve(task.prompt, again=run.again)
        if isinstance(found, Reservation):
            return found
        if isinstance(found, Record):
            task.found(found.job, found.prompt, found.submitted_at)
            run.progress.found(task)
            raise _Known
        if not found.held:
            stand_for(task, found)
            give_up(task, run)
        if time.monotonic() >= until:
            hold_back(task)
            raise Failure("timeout", "another submit of this prompt is under way and does not end")
        if not told:
            run.progress.waits_for_another(task)
            told = True
        time.sleep(_ASK_AFTER)


def stand_for(task: Task, trace: Trace) -> None:
    """Take on a submit of an earlier run whose outcome nobody knows."""
    task.trace, task.submitted_at, task.phase = trace.path, trace.submitted_at, Phase.SENT
    task.balance = (trace.balance, None)


def give_up(_task: Task, _run: Run) -> None:
    """Raise the Failure for such a submit."""
    raise Failure(
        "submission_unknown", "an earlier run sent this prompt, and whether it created a job is not known"
    )


def hold_back(task: Task) -> None:
    """Note that this run will not submit the task any more; one that has a job keeps it."""
    if task.phase is Phase.NEW:
        task.phase = Phase.HELD_BACK


def _moment_after(last: str) -> str:
    """Return the time, in another second than `last`: it tells the record of this submit from that one's."""
    while utc_now() == last:
        time.sleep(0.05)
    return utc_now()


def save(task: Task, run: Run) -> None:
    """Bring the task's record up to date, and the gallery. Raises Failure `file_error`."""
    if _record(task, run) and run.gallery:
        run.gallery.changed()


def _record(task: Task, run: Run) -> bool:
    if run.directory is None or task.job is None or task.job == task.on_record:
        return False
    failure = job_failure(task.job)
    error = failure.as_json(hint_for(failure, task.phase, None)) if failure else None
    run.directory.save(Record(task.job, task.prompt, task.submitted_at), error)
    task.on_record = task.job
    return True


def follow(task: Task, run: Run) -> None:
    """Wait until the task's job has ended. Raises Failure where it cannot be waited for any longer."""
    assert task.job_id
    assert run.schedule
    job_id = task.job_id
    if task.job and task.job.settled:
        return

    def seen(job: Job) -> None:
        if run.gallery:
            run.gallery.waits(job_id)
        changed = task.job is None or task.job.status != job.status
        run.progress.seen(task, job)
        if changed and not job.settled:
            with contextlib.suppress(Failure):  # as above
                save(task, run)

    # Only a job that this run has submitted needs its initial wait.
    schedule = run.schedule if task.since else run.schedule._replace(initial_wait=0.0)
    wait(lambda left: run.api.look(job_id, left), schedule, seen, since=task.since)


def look(task: Task, run: Run) -> None:
    """Look at the task's job once, unless its record has all that can be known. Raises Failure."""
    assert task.job_id is not None
    if not (task.job and task.job.settled):
        run.progress.seen(task, run.api.look_patiently(task.job_id))


def keep(task: Task, run: Run) -> None:
    """Put the job on record. Raises Failure, `job_failed` among them."""
    assert task.job is not None
    save(task, run)
    failed = job_failure(task.job)
    if failed:
        raise failed


def finish(task: Task, run: Run) -> None:
    """Put the job on record and, once completed, its images on disk. Raises Failure, as `keep` does."""
    trouble: Failure | None = None
    try:
        keep(task, run)
    except Failure as failure:
        if failure.type == "job_failed":
            raise
        trouble = failure  # the images may still fit
    job = task.job
    assert job is not None
    if job.completed and run.directory:
        if not job.has_images:
            raise Failure("no_images", "completed, but without images")
        _download(task, job, run)
    if trouble:
        raise trouble


def job_failure(job: Job) -> Failure | None:
    """Return why the job failed, or None where it did not."""
    if job.error is None:
        return None
    hint = None
    usage = job.meta.get("usage")
    if isinstance(usage, dict) and usage.get("consume") == 0:
        hint = f"{KINDS['job_failed'].hint} This job was not charged (`consume` is 0)."
    return Failure("job_failed", job.error.message, code=job.error.code, hint=hint)


def wanted(job: Job) -> dict[str, str]:
    """Return the URLs of the job's images by the names of their files, which have no extension yet."""
    urls = {str(number): url for number, url in enumerate(job.image_urls, 1)}
    return {**urls, "grid": job.image_url} if job.image_url else urls


def as_files(found: dict[str, Picture | None], run: Run) -> dict[str, object]:
    """Return the pictures as they are printed, absolute paths; those that are not there under `missing`."""
    assert run.directory is not None
    there = {name: picture for name, picture in found.items() if picture}
    grid = there.pop("grid", None)
    files: dict[str, object] = {"grid": grid.path} if grid else {}
    files["images"] = [picture.path for picture in there.values()]
    if run.directory.gallery.is_file():
        files["gallery"] = str(run.directory.gallery)
    pixels: dict[str, object] = {"grid": grid.pixels} if grid else {}
    files["pixels"] = {**pixels, "images": [picture.pixels for picture in there.values()]}
    missing = [f"{name}.png" for name, picture in found.items() if picture is None]
    return {**files, "missing": missing} if missing else files


def report_finished(task: Task, run: Run) -> bool:
    """Print a job that is on record as completed, with all its images on disk; say whether it is one."""
    job = task.job
    if not (job and job.completed and job.has_images and run.directory):
        return False
    found = run.directory.pictures(job.job_id, list(wanted(job)), measured=task.index is None)
    if None in found.values():
        return False
    if task.index is None:  # a short line shows none of them
        task.files = as_files(found, run)
    run.progress.end(task)
    return True


def _download(task: Task, job: Job, run: Run) -> None:
    """Fetch what is not there yet, side by side.

    Raises Failure of the first image, in order, that could not be had, after all have been tried.
    """
    assert run.directory
    assert run.images
    assert run.fetching
    directory, images, urls = run.directory, run.images, wanted(job)
    failures: dict[str, Failure] = {}

    def fetch(name: str) -> None:
        folder = directory.path / job.job_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            images.fetch(urls[name], folder / name)
        except Failure as failure:
            failures[name] = Failure(
                failure.type,
                f"{_called(name)}: {failure.message}",
                code=failure.code,
            )
        except OSError as error:
            failures[name] = file_error(f"{_called(name)} could not be written", error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not lose a job
            failures[name] = unexpected(error)

    missing = [name for name, at in directory.pictures(job.job_id, list(urls)).items() if at is None]
    list(run.fetching.map(fetch, missing))
    found = directory.pictures(job.job_id, list(urls), measured=True)
    if missing and run.gallery:
        run.gallery.changed()
    if any(found.values()):
        task.files = as_files(found, run)
    for name in urls:
        if name in failures:
            raise failures[name]


def _called(name: str) -> str:
    return "the grid (grid.png)" if name == "grid" else f"picture {name} ({name}.png)"


def recall(task: Task, run: Run) -> None:
    """Take what is on record of a job whose id the user gave: its prompt, its time, and all if it is over.

    Raises Failure `file_error`.
    """
    record = run.directory.load(task.job_id) if run.directory and task.job_id else None
    if record:
        task.prompt, task.submitted_at = record.prompt, record.submitted_at
        if record.job.settled:
            task.job = task.on_record = record.job


def take_through(task: Task, run: Run, *steps: Callable[[Task, Run], None]) -> None:
    """Take the task through `steps` and print it, however they end."""
    failure: Failure | None = None
    try:
        for step in steps:
            step(task, run)
    except Failure as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - a fault of ours must not lose a job, nor hide one
        failure = unexpected(error, sent=task.phase is Phase.SENT)
    with contextlib.suppress(Failure):
        save(task, run)  # the record follows what was last seen, whatever the end
    if run.gallery and task.job_id:
        run.gallery.ended(task.job_id)
    if task.phase is Phase.SENT:
        with contextlib.suppress(Failure):
            task.balance = (task.balance[0], run.api.balance_usd())
    run.progress.end(task, failure)


def prepare(
    console: Console,
    progress: Progress,
    form: Form,
    *,
    schedule: Schedule | None = None,
    patience: float = 0.0,
    limit: Limit | None = None,
    again: bool = False,
) -> Run:
    """Make ready all that a run needs, cheapest check first; nothing is sent.

    Raises Failure where the key, the base URL, `requests`, the output directory or a thread is not to be had.
    """
    trace = console.trace if console.verbose else None
    run = Run(
        Api(settings(), trace), progress, schedule, patience, limit.last_submit if limit else None, again
    )
    # `requests` is imported: a long batch has garbage of its own, and need not look for it in there.
    gc.freeze()
    gc.set_threshold(5_000)
    if form.output_dir is None:
        return run
    from legnext.disk.gallery import Gallery

    directory = OutputDir(form.output_dir, lambda line: console.say(line, always=True))
    directory.prepare()
    return run._replace(
        directory=directory,
        gallery=Gallery(directory, lambda job_id: resume_command(job_id, form)),
        images=ImageHost(trace),
        fetching=threads(IMAGES_AT_ONCE),
    )


def threads(count: int) -> Executor:
    """Return a pool of `count` threads that run already: none has to be found once a job is paid for.

    Raises Failure `setup_error`.
    """
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    pool = ThreadPoolExecutor(count)
    started = Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(started.wait)
        started.wait()
    except RuntimeError as error:
        started.abort()
        raise Failure(
            "setup_error",
            f"this machine gives the process no {count} threads: {error}",
            hint="Nothing was sent. Raise the limits of memory and processes, or give a lower --concurrency.",
        ) from None
    return pool
