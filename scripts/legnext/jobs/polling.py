"""When to look at a job again (a pure schedule), and waiting by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from legnext.errors import Failure

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


# What printing, and the interpreter's start before the first line of ours, are given of --time-limit.
_ENDING_SECONDS = 0.5
# No submit is begun in the last seconds of a limit: its answer would come too late to be told.
_LAST_SUBMIT_SECONDS = 10.0


class Limit(NamedTuple):
    """When a run has to be over, by the monotonic clock, and until when it may begin a submit."""

    end: float
    last_submit: float

    @classmethod
    def of(cls, seconds: float) -> Limit:
        """Return what --time-limit means from now on."""
        end = time.monotonic() + seconds - min(_ENDING_SECONDS, seconds / 4)
        return cls(end, end - min(_LAST_SUBMIT_SECONDS, seconds / 3))


def ends_the_wait(failure: Failure) -> bool:
    """Say whether a look that failed so ends the wait: the API's own 401, 403 and 404 alone.

    All else may pass: a gateway that restarts answers anything, and a certificate was wrong for 1.5 s while
    nginx read it anew.
    """
    return failure.code in (401, 403, 404) and failure.type != "bad_response"


def _any_share() -> float:
    from random import random

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

    `look` is given the seconds that are left and returns the job or raises Failure. `on_job` is told of
    every job seen. Raises Failure where a look ends the wait, and when time is up: of the last look, if that
    failed, else `timeout`, or `no_images` where the job completed without any.
    """
    from legnext.wire.transport import back_off  # the flags need the schedule alone

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
            if ends_the_wait(failure):
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
        words = f"gave up after {schedule.max_wait:g} s; the last look failed: {trouble.message}"
        raise Failure(
            trouble.type, words, code=trouble.code, hint=trouble.hint, retry_after=trouble.retry_after
        )
    if job is not None and job.completed:
        raise Failure("no_images", f"completed, but without images after {schedule.max_wait:g} s")
    status = job.status if job is not None else "unknown"
    raise Failure("timeout", f"not finished after {schedule.max_wait:g} s; status {status}")
