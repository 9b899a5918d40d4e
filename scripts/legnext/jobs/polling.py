"""When to look at a job again (a pure schedule), and waiting by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from legnext.errors import Failure
from legnext.wire.transport import back_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from legnext.job import Job

INITIAL_WAIT = 10.0
INTERVAL = 5.0
MAX_WAIT = 180.0
"""Legnext's recommended schedule, in seconds (API reference, "Recommended Polling Strategy")."""


class Schedule(NamedTuple):
    """When to look, in seconds since the job was submitted (or since the wait began)."""

    initial_wait: float = INITIAL_WAIT
    interval: float = INTERVAL
    max_wait: float = MAX_WAIT

    def first_look(self) -> float:
        """Return when to look first."""
        return min(self.initial_wait, self.max_wait)

    def next_look(self, looked: float, now: float, pause: float = 0.0) -> float | None:
        """Return when to look again, or None when time is up.

        `looked` is when the last look began, `now` when it ended. Looks begin one interval apart, or
        `pause` seconds where that is longer; after an answer slower than that a whole interval passes, so
        that a slow server is not asked without a break. The last look is at `max_wait`.
        """
        if looked >= self.max_wait or now >= self.max_wait:
            return None
        step = max(self.interval, pause)
        due = looked + step
        return min(due if due > now else now + step, self.max_wait)


def _any_share() -> float:
    from random import random  # not needed for --help

    return random()


def wait(
    look: Callable[[float], Job],
    schedule: Schedule,
    on_job: Callable[[Job], None],
    *,
    since: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = _any_share,
) -> Job:
    """Look until the job has ended, by `schedule` from `since` (by `clock`) or from now on, and return it.

    `look` is given the seconds that are left and returns the job or raises Failure; a transient one does
    not end the wait. `on_job` is told of every job seen. Raises Failure when time is up: of the last look,
    if that failed, else `timeout`, or `no_images` where the job completed without any.
    """
    start = clock() if since is None else since
    due: float | None = schedule.first_look()
    failures = 0
    job: Job | None = None
    while due is not None:
        sleep(max(0.0, start + due - clock()))
        looked = clock() - start
        pause, trouble = 0.0, None
        try:
            job = look(schedule.max_wait - looked)
        except Failure as failure:
            if not failure.transient:
                raise
            failures += 1
            pause = back_off(failures, failure.retry_after, first=schedule.interval, jitter=jitter())
            trouble = failure
        else:
            failures = 0
            on_job(job)
            if job.settled:
                return job
        # `due` and not the clock: a look that was due at the deadline is the last one.
        due = schedule.next_look(max(looked, due), clock() - start, pause)
    if trouble:
        trouble.message = f"gave up after {schedule.max_wait:g} s; the last look failed: {trouble.message}"
        raise trouble
    if job is not None and job.completed:
        raise Failure("no_images", f"completed, but without images after {schedule.max_wait:g} s")
    status = job.status if job is not None else "unknown"
    raise Failure("timeout", f"not finished after {schedule.max_wait:g} s; status {status}")
