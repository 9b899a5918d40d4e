"""From prompts, or job ids, to pictures: many side by side.

A pool of workers takes the tasks in order; each submits, then waits for its job. The pictures are
downloaded by a second pool, so that a slot at Legnext is used again the moment its job is over.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from concurrent import futures
from dataclasses import dataclass
from functools import partial

from legnext import budget
from legnext.api import RETRY_SECONDS, Client, backoff_delay, with_retry
from legnext.budget import Block
from legnext.download import Downloader
from legnext.errors import KINDS, Exit, Failure, as_failure
from legnext.finish import Run, attempt, end, finish, write_page
from legnext.plan import Plan, Prompts, make_plan, show_plan
from legnext.report import Reporter
from legnext.settings import LOCAL, base_url, host_of
from legnext.store import Store
from legnext.submit import Buyer, submit
from legnext.task import Task

ENDS_WAIT = (401, 403, 404)  # of the API itself; everything else may pass


@dataclass(frozen=True)
class Schedule:
    """When to ask for a job's status, in seconds since its submit."""

    initial_wait: float
    interval: float
    max_wait: float

    def next_poll(self, began: float, now: float, pause: float = 0.0) -> float | None:
        """Return when to ask again, None if time is up. The last time is at `max_wait`.

        `began` is when the last request began, `now` when it ended. Requests begin an interval
        apart, or `pause` if that is longer; after a slower answer a whole interval passes.
        """
        if max(began, now) >= self.max_wait:
            return None
        step = max(self.interval, pause)
        return min(began + step if began + step > now else now + step, self.max_wait)


# --- The two commands


def new_run(store: Store, reporter: Reporter, stop: threading.Event, *, waits: bool) -> Run:
    """Return what every run has. It needs neither a key nor `requests` yet."""
    log = reporter.always_say if reporter.options.verbose else None
    downloader = Downloader(stop, log, http_on_loopback=store.host == LOCAL)
    return Run(Client(base_url(), log), store, stop, reporter, downloader, waits)


def buy(prompts: Prompts, reporter: Reporter, stop: threading.Event, *, waits: bool) -> None:
    """Make the pictures that are asked for, or only plan them. Raises Failure.

    If the run does not wait, the jobs are only submitted.
    """
    options = reporter.options
    store = Store(options.output_dir, host_of(base_url()), reporter.say)
    plan = make_plan(options, prompts, store)
    if options.dry_run:
        show_plan(plan, reporter)
        return
    reporter.tasks = plan.tasks
    for task in plan.wanted:
        for record in store.foreign_records(task):
            reporter.say(f"the record of {record['job_id']} is of {record['host']}: not used")
    run = new_run(store, reporter, stop, waits=waits)
    run.buyer = Buyer(run.client, store, stop, reporter.always_say, again=options.again)
    for task, failure in plan.refusals.items():
        reporter.end(task, failure)
    if not plan.refusals:
        block = plan.block or (prepare_to_buy(plan, run.buyer) if plan.wanted else None)
        if block:
            reporter.end_together(plan.wanted, block.failure, block.facts)
        else:
            plan.approve()
        blocked = set(plan.wanted) if block else set()
        run_tasks([task for task in plan.tasks if task not in blocked], run)
    write_page(run)


def prepare_to_buy(plan: Plan, buyer: Buyer) -> Block | None:
    """Check the folder, the key and the balance; return why nothing can be bought, or None."""
    prices = [task.price_usd for task in plan.wanted]
    facts = {"price_usd": budget.total(prices)}
    try:
        buyer.store.prepare()
        buyer.balance_usd = buyer.client.balance_usd()
    except Failure as failure:
        matters = failure.type in ("file_error", "missing_dependency")
        matters |= KINDS[failure.type].exit == Exit.KEY
        return Block(failure, facts) if matters else None
    return None if buyer.balance_usd is None else budget.over_balance(prices, buyer.balance_usd)


def follow(job_ids: list[str], reporter: Reporter, stop: threading.Event, *, waits: bool) -> None:
    """Print jobs by their ids; without ids every job on record, oldest first. Raises Failure."""
    options = reporter.options
    store = Store(options.output_dir, host_of(base_url()), reporter.say)
    store.read()
    records = sorted(store.records.values(), key=lambda record: str(record.get("submitted_at")))
    for index, job_id in enumerate(job_ids or [record["job_id"] for record in records]):
        task = Task(job_id=job_id, index=index if options.lists_all else None)
        if job_id in store.records:
            task.adopt(store.records[job_id])
        reporter.tasks.append(task)
    if options.lists_all and store.damaged:
        reporter.fail(store.damaged, {})
    run = new_run(store, reporter, stop, waits=waits)
    run_tasks(reporter.tasks, run)
    write_page(run)


# --- The workers


def run_tasks(tasks: list[Task], run: Run) -> None:
    """Take every task as far as it goes, and print it.

    Jobs on record come first: they may be unfinished, and then have a slot at Legnext already.
    """
    queue = deque(sorted(tasks, key=lambda task: task.job is None))
    workers = [
        threading.Thread(target=work, args=(queue, run), daemon=True)
        for _ in range(min(run.reporter.options.concurrency, len(queue)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    while futures.wait(run.finished, timeout=0.1).not_done and not run.stop.is_set():
        pass
    if run.stop.is_set():
        run.downloader.discard()
        return
    words = "not begun: jobs that were not over in time are still running"
    for task in queue:
        end(task, Failure("timeout" if task.job else "not_submitted", words), run)
    for task in tasks:  # each has an object, whatever went wrong
        run.reporter.end(task, Failure("api_error", "it ended without a result"))


def work(queue: deque[Task], run: Run) -> None:
    """Take tasks until there are none, or a job that is not over keeps this worker's slot."""
    while not run.stop.is_set():
        try:
            task = queue.popleft()
        except IndexError:
            return
        try:
            submit_and_wait(task, run)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not hide a job
            failure = as_failure(error)
        else:
            run.finished.append(run.finishers.submit(finish, task, run))
            continue
        if failure.type == "submission_unknown":
            attempt(note_balance, task, run)
        end(task, failure, run)
        has_slot = task.job is not None and not task.job.is_final and failure.type != "not_found"
        if run.buyer and has_slot:
            return


def note_balance(task: Task, run: Run) -> None:
    task.balance = {**task.balance, "after": run.client.balance_usd()}


def submit_and_wait(task: Task, run: Run) -> None:
    """Submit and wait, as far as that is needed. Raises Failure, OSError."""
    options = run.reporter.options
    if run.buyer:
        if options.retry_failed and task.job and task.job.has_failed:
            refresh_job(task, run)
            if task.job.has_failed:
                task.replace_failed_job()
        if task.job is None:
            patience = options.max_wait if run.waits else RETRY_SECONDS
            with_retry(partial(submit, task, run.buyer), patience, run.stop)
        if not run.waits or (task.job and task.job.has_failed):
            return
    if run.is_complete(task):
        return
    if task.is_earlier and task.job and task.job.is_over:
        refresh_job(task, run)
        if task.job.is_over:
            return
    if run.waits:
        wait(task, run, Schedule(options.initial_wait, options.interval, options.max_wait))
    else:
        poll_once(task, run)


def poll_once(task: Task, run: Run) -> None:
    """Ask for the job; again if that may help. Raises Failure."""
    task.set_job(with_retry(partial(run.client.get_job, task.job_id), RETRY_SECONDS, run.stop))


def refresh_job(task: Task, run: Run) -> None:
    """Ask again for a job that was over: it may have more pictures, or fresh URLs.

    What is on record serves if the API has forgotten the job, or its pictures. Raises Failure.
    """
    known = task.job
    try:
        poll_once(task, run)
    except Failure as failure:
        if failure.type != "not_found":
            raise
    if known and known.urls and task.job and not task.job.urls:
        task.set_job(known)


def ends_wait(failure: Failure, *, id_given: bool) -> bool:
    """Say whether waiting cannot help: the key is refused, or the API does not know the job."""
    if failure.type == "bad_response":  # a gateway's
        return False
    needs_fix = KINDS[failure.type].exit == Exit.KEY or failure.type == "missing_dependency"
    return needs_fix or failure.code in ENDS_WAIT or (id_given and failure.code == 400)


def wait(task: Task, run: Run, schedule: Schedule) -> None:
    """Ask for the job until it is over. Raises Failure."""
    start = task.submitted or run.began
    due: float | None = time.monotonic() - start
    if task.submitted:
        due = min(schedule.initial_wait, schedule.max_wait)
    failures, trouble = 0, None
    while due is not None:
        if run.stop.wait(max(0.0, start + due - time.monotonic())):
            raise Failure("interrupted", f"stopped by {run.reporter.signal}")
        began, pause = time.monotonic() - start, 0.0
        try:
            job = run.client.get_job(task.job_id, schedule.max_wait - began)
        except Failure as failure:
            if ends_wait(failure, id_given=run.buyer is None):
                raise
            failures, trouble, asked = failures + 1, failure, failure.retry_after
            pause = backoff_delay(failures, asked, base=schedule.interval, jitter=random.random())
        else:
            failures, trouble = 0, None
            has_changed = task.job is None or task.job.status != job.status
            task.set_job(job)
            if has_changed:
                run.reporter.say_status(task)
            if job.is_over:
                return
        due = schedule.next_poll(max(began, due), time.monotonic() - start, pause)
    if trouble:
        trouble.message = f"gave up after {schedule.max_wait:g} s: {trouble.message}"
        raise trouble
    if task.job and task.job.has_succeeded:
        raise Failure("no_images", f"completed, but without pictures after {schedule.max_wait:g} s")
    status = task.job.status if task.job else "unknown"
    raise Failure("timeout", f"not finished after {schedule.max_wait:g} s; status {status}")
