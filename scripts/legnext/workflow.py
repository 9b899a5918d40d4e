"""From prompts, or job ids, to pictures: many at once.

Each worker takes a task, submits it and waits for its job. Other threads finish it (finish.py), so
that a slot at Legnext is used again the moment its job is over.
"""

import random
import time
from collections import deque
from concurrent import futures
from functools import partial
from typing import NamedTuple

from legnext import budget
from legnext.api import RETRY_SECONDS, Client, backoff_delay, with_retry
from legnext.download import Downloader
from legnext.errors import Failure, attempt
from legnext.finish import Run, finish, write_page
from legnext.job import A_JOB_ID, is_job_id
from legnext.plan import SUBMIT, make_plan, read_prompts, show_plan
from legnext.records import load_record
from legnext.report import Reporter
from legnext.settings import LOCAL, base_url, host_of
from legnext.store import Store
from legnext.submit import Buyer, submit
from legnext.task import Task

NEEDS_FIX = ("missing_api_key", "invalid_api_key", "missing_dependency")
ENDS_WAIT = (401, 403, 404)  # of the API itself; everything else may pass


class Schedule(NamedTuple):
    """When to poll a job, in seconds since its submit."""

    initial_wait: float
    interval: float
    max_wait: float

    def next_poll(self, began: float, now: float, pause: float) -> float | None:
        """Return when to poll next, None if time is up. The last poll is at `max_wait`.

        The last one took from `began` to `now`. They begin an interval apart, or `pause` if that is
        longer; after a slower answer a whole interval passes.
        """
        if max(began, now) >= self.max_wait:
            return None
        step = max(self.interval, pause)
        return min(began + step if began + step > now else now + step, self.max_wait)


def new_run(reporter: Reporter) -> Run:
    """Return what every run has; needs no key, no `requests`. Raises Failure."""
    url, log, directory = base_url(), reporter.log, reporter.options.output_dir
    if directory and load_record(directory):
        raise Failure("usage", f"{directory} is a job's folder: give the one above")
    host = host_of(url)
    store = Store(directory, host, reporter.say)
    reporter.folders = store.folders
    downloader = Downloader(reporter.stop, log, http_on_loopback=host == LOCAL)
    return Run(Client(url, reporter.stop, log), store, reporter.stop, reporter, downloader)


def generate(reporter: Reporter) -> None:
    """Submit prompts and wait for their pictures. Raises Failure."""
    reporter.options.wait = True
    run_prompts(reporter)


def run_prompts(reporter: Reporter) -> None:
    """Submit prompts, and wait if asked to; or show the plan. Raises Failure."""
    options = reporter.options
    prompts, run = read_prompts(options), new_run(reporter)
    plan = make_plan(options, prompts, run.store)
    if options.dry_run:
        show_plan(plan, reporter)
        return
    reporter.tasks = tasks = plan.tasks
    for task in plan.wanted:
        for record in run.store.foreign_records(task):
            reporter.say(f"the record of {record['job_id']} is of {record['host']}: not used")
    run.buyer = Buyer(run.client, run.store, run.stop, reporter.always_say, again=options.again)
    if plan.refusals:
        for task, failure in plan.refusals.items():
            reporter.print_task(task, failure)
        tasks = []
    elif block := plan.block or prepare_to_buy(plan.wanted, run.buyer):
        reporter.print_together(plan.wanted, block)
        tasks = [task for task in tasks if plan.would[task] != SUBMIT]
    for task in tasks:  # priced, within every limit
        task.approved = plan.would[task] == SUBMIT
    run_tasks(tasks, run)


def prepare_to_buy(wanted: list[Task], buyer: Buyer) -> budget.Block | None:
    """Check folder, key and balance; return why nothing can be bought, or None."""
    if not wanted:
        return None
    prices = [task.price_usd for task in wanted]
    try:
        buyer.store.prepare()
        buyer.balance_usd = buyer.client.balance_usd()
    except Failure as failure:
        is_fatal = failure.type in ("file_error", *NEEDS_FIX)
        return budget.Block(failure, {"price_usd": budget.total(prices)}) if is_fatal else None
    return None if buyer.balance_usd is None else budget.over_balance(prices, buyer.balance_usd)


def run_jobs(reporter: Reporter) -> None:
    """Print jobs by their ids, or all on record, oldest first. Raises Failure."""
    options = reporter.options
    for job_id in options.job_ids or []:
        if not is_job_id(job_id):
            raise Failure("usage", f"{job_id!r} is not a job id, which is {A_JOB_ID}")
    if options.lists_all and options.output_dir is None:
        raise Failure("usage", "give a JOB_ID, or --output-dir for all jobs in it")
    run = new_run(reporter)
    store = run.store
    store.refresh()
    records = sorted(store.records.values(), key=lambda record: str(record.get("submitted_at")))
    job_ids = options.job_ids or [record["job_id"] for record in records]
    for index, job_id in enumerate(job_ids):
        task = Task(index if options.lists_all else None, job_id=job_id)
        if record := store.records.get(job_id):
            task.adopt(record)
        reporter.tasks.append(task)
    if options.lists_all and store.damaged:
        reporter.print_json({}, store.damaged)
    for intent in store.unknown if options.lists_all else ():
        reporter.always_say(f"outcome unknown: {intent.path}")
    run_tasks(reporter.tasks, run)


def run_tasks(tasks: list[Task], run: Run) -> None:
    """Take every task as far as it goes, print it, and write the page.

    What needs no request comes first, what needs a new slot at Legnext last.
    """
    slots, others = run.reporter.options.concurrency, []
    for task in tasks:
        if run.has_all_pictures(task):
            attempt(finish, task, run)
        else:
            others.append(task)
    queue = deque(sorted(others, key=lambda task: (task.approved, is_unfinished(task))))
    with futures.ThreadPoolExecutor(slots) as workers:
        for _ in range(slots):
            workers.submit(work, queue, run)
    while futures.wait(set(run.finishing), timeout=0.1).not_done and not run.stop.is_set():
        pass
    if not run.stop.is_set():
        for task in queue:
            run.reporter.print_task(task, Failure("not_submitted", "running jobs keep all slots"))
        for task in tasks:  # each has an object, whatever went wrong
            run.reporter.print_task(task, Failure("api_error", "it ended without a result"))
    if run.is_page_old:
        attempt(write_page, run)


def is_unfinished(task: Task) -> bool:
    return task.job is not None and not task.job.is_final


def work(queue: deque[Task], run: Run) -> None:
    """Take all tasks; submit none while a job that was given up has the slot."""
    is_free = True
    while not run.stop.is_set():
        try:
            task = queue.popleft()
        except IndexError:
            return
        if task.approved and not is_free:
            queue.appendleft(task)
            return
        if failure := attempt(submit_and_wait, task, run):
            if failure.type == "submission_unknown":
                attempt(note_balance, task, run)
            run.reporter.print_task(task, failure)
            run.is_page_old = True
            is_free &= not is_unfinished(task) or failure.type == "not_found"
        else:
            future = run.finishers.submit(finish, task, run)
            run.finishing.add(future)
            future.add_done_callback(run.finishing.discard)


def note_balance(task: Task, run: Run) -> None:
    task.balance["after"] = run.client.balance_usd()


def submit_and_wait(task: Task, run: Run) -> None:
    """Submit and wait, as far as needed. Raises Failure, OSError."""
    options = run.reporter.options
    if run.buyer:
        if options.retry_failed and task.job and task.job.has_failed:
            refresh_job(task, run)
            if task.job.has_failed:
                task.replace_failed_job()
        if task.job is None:
            patience = options.max_wait if options.wait else RETRY_SECONDS
            with_retry(partial(submit, task, run.buyer), patience, run.stop)
        if not options.wait:
            return
    is_listed = task.is_earlier and not options.job_ids
    if run.has_all_pictures(task) or (is_listed and task.job and task.job.has_failed):
        return
    if run.buyer and task.is_earlier:
        run.buyer.announce(task)
    if task.is_earlier and task.job and task.job.is_over:
        refresh_job(task, run)
        if task.job.is_over:
            return
    if options.wait:
        wait(task, run)
    else:
        poll_once(task, run)


def poll_once(task: Task, run: Run) -> None:
    task.set_job(with_retry(partial(run.client.get_job, task.job_id), RETRY_SECONDS, run.stop))


def refresh_job(task: Task, run: Run) -> None:
    """Poll a job that was over, for fresh URLs or more pictures. Raises Failure.

    The record serves if the API has forgotten the job, or pictures of it.
    """
    known = task.job
    try:
        poll_once(task, run)
    except Failure as failure:
        if failure.type != "not_found":
            raise
    if known and task.job and len(task.job.image_urls) < len(known.image_urls):
        task.set_job(known)


def wait(task: Task, run: Run) -> None:
    """Poll the job until it is over. Raises Failure."""
    options, start = run.reporter.options, task.bought_at or run.began
    schedule = Schedule(options.initial_wait, options.interval, options.max_wait)
    due: float | None = min(schedule.initial_wait, schedule.max_wait) if task.bought_at else 0.0
    failures: list[Failure] = []  # of the last requests, in a row
    while due is not None:
        if run.stop.wait(max(0.0, start + due - time.monotonic())):
            raise Failure("interrupted", "stopped while waiting for the job")
        began, pause = time.monotonic() - start, 0.0
        try:
            job = run.client.get_job(task.job_id, schedule.max_wait - began)
        except Failure as failure:
            codes = ENDS_WAIT if run.buyer else (400, *ENDS_WAIT)
            is_final = failure.code in codes and failure.type != "bad_response"  # a gateway's
            if is_final or failure.type in NEEDS_FIX:
                raise
            failures.append(failure)
            after, jitter = failure.retry_after, random.random()
            pause = backoff_delay(len(failures), after, base=options.interval, jitter=jitter)
        else:
            failures.clear()
            has_changed = task.job is None or task.job.status != job.status
            task.set_job(job)
            if has_changed:
                run.reporter.say_status(task)
            if job.is_over:
                return
        due = schedule.next_poll(max(began, due), time.monotonic() - start, pause)
    limit = f"after {schedule.max_wait:g} s"
    if failures:
        failures[-1].message = f"gave up {limit}: {failures[-1].message}"
        raise failures[-1]
    if task.job and task.job.has_succeeded:
        raise Failure("no_images", f"completed, but without pictures {limit}")
    raise Failure("timeout", f"not finished {limit}")
