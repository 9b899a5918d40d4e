"""The tasks of a run: each is printed once, when it is over or when the run is stopped."""

from __future__ import annotations

import contextlib
import time
from threading import Event, RLock
from typing import TYPE_CHECKING

from legnext.errors import KINDS, Exit, Failure, Phase, exit_code
from legnext.jobs.report import Form, earlier_line, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legnext.console import Console
    from legnext.job import Job
    from legnext.jobs.task import Task


class Progress:
    """What is known of every task, for printing, for progress and for signals. Safe to use from threads."""

    def __init__(self, console: Console) -> None:
        """Begin with no task."""
        self._console = console
        self._lock = RLock()
        self._tasks: list[Task] = []
        self._ready: dict[Task, tuple[dict[str, object], Exit]] = {}
        self._exits: dict[Task, Exit] = {}
        self._knows_a_job = False
        self._in_order = False
        self._stopped = False
        self._began = time.monotonic()
        self._form = Form()

    def begin(self, tasks: list[Task], form: Form, *, in_order: bool = False) -> None:
        """Take on the run's tasks, in input order; `in_order` prints them so, else as they end."""
        with self._lock:
            self._tasks, self._form, self._in_order = tasks, form, in_order

    @contextlib.contextmanager
    def _worker(self) -> Iterator[None]:
        """Hold the lock, but never again once the run is being stopped: dozens may be queueing for it."""
        with self._lock:
            if not self._stopped:
                yield
                return
        Event().wait()

    def sending(self, task: Task, then: Callable[[], None]) -> None:
        """Note that the task's submit is about to be sent, and call `then`, both or neither.

        Once the run is being stopped this never returns: what is reported as not submitted never is.
        """
        with self._worker():
            task.phase = Phase.SENT
            then()

    def not_sent(self, task: Task) -> None:
        """Note that the task's submit certainly created nothing."""
        with self._worker():
            task.phase = Phase.NEW

    def submitted(self, task: Task, job: Job) -> None:
        """Show the id of a job just created: on stderr, whatever --quiet says."""
        # Before the lock, which a run that is being stopped does not give back: it still finds the id.
        task.job, task.job_id, task.phase = job, job.job_id, Phase.KNOWN
        with self._worker():
            self._console.say(f"{task.label} {job.status}", always=True)

    def found(self, task: Task) -> None:
        """Show the id of a job that was found on record, likewise."""
        with self._worker():
            self._console.say(earlier_line(task, bought_anew="--again"), always=True)

    def waits_for_another(self, task: Task) -> None:
        """Say that the task's prompt is being submitted just now, by another run or for another line."""
        with self._worker():
            self._say(f"{task.label}: another submit of this prompt is under way, waiting for its outcome")

    def seen(self, task: Task, job: Job) -> None:
        """Take in the job as just looked at; a line only where its status has changed."""
        with self._worker():
            changed = task.job is None or task.job.status != job.status
            task.job = job
            if changed:
                self._say(f"{task.label} {job.status}")

    def end(self, task: Task, failure: Failure | None = None) -> None:
        """Print the task's object, once: its work is over, well or not."""
        with self._worker():
            if task in self._exits or task in self._ready:
                return
            if failure and failure.type != "job_failed":  # that is said as a status
                self._say(f"{task.label} {failure.type}")
            self._ready[task] = report(task, failure, self._form)
            if not self._in_order:
                self._print(task)
            else:
                while len(self._exits) < len(self._tasks) and self._tasks[len(self._exits)] in self._ready:
                    self._print(self._tasks[len(self._exits)])

    def exit(self) -> Exit:
        """Return the exit code of the run: of its first failure in input order.

        A result that stdout did not take is not done.
        """
        with self._lock:
            failures = (self._exits[task] for task in self._tasks if self._exits.get(task, Exit.DONE))
            code = next(failures, Exit.DONE)
            if code is Exit.DONE and self._console.lost:
                return Exit.GO_ON if self._knows_a_job else Exit.RUN_AGAIN
            return code

    def stop(self, why: Failure, exit_: Exit | None = None) -> Exit:
        """Print what has not been printed, as stopped by `why`, and nothing after; return the exit code.

        That is `exit_` where anything was left to be stopped; what is printed already stands.
        """
        self._stopped = True
        # A worker may hold the lock for as long as nobody reads stdout; then nothing can be printed anyway.
        if not self._lock.acquire(timeout=1.0):
            return exit_ or Exit.GO_ON
        cut_short = False
        for task in self._tasks:
            if task not in self._exits and task not in self._ready:
                cut_short = True
                self._ready[task] = report(task, self._stopped_by(why, task), self._form)
            if task in self._ready:
                self._print(task)
        if not self._tasks:
            self._console.emit({"error": why.as_json(why.hint or "Nothing was sent: run the command again.")})
            return exit_ or exit_code(why.type, Phase.NEW)
        return exit_ if exit_ and cut_short else self.exit()

    def show(self, now: float) -> None:
        """Bring the live line up to date, where stderr is a terminal."""
        # Without waiting for the lock: this is the main thread, which has to be free for signals.
        if not self._console.live or not self._lock.acquire(blocking=False):
            return
        try:
            elapsed = f"{now - self._began:.0f} s"
            if len(self._tasks) == 1:
                task = self._tasks[0]
                self._console.say_live(f"{task.label} {task.job.status if task.job else ''}, {elapsed}")
            elif self._tasks:
                self._console.say_live(f"{self._counts()}, {elapsed}")
        finally:
            self._lock.release()

    def _counts(self) -> str:
        failed = sum(1 for exit_ in self._exits.values() if exit_)
        running = sum(1 for task in self._tasks if task.job_id and task not in self._exits)
        waiting = len(self._tasks) - len(self._exits) - running
        return f"{len(self._exits) - failed} done, {running} running, {waiting} waiting, {failed} failed"

    def _say(self, line: str) -> None:
        if not self._console.live:  # a terminal has the live line instead
            self._console.say(f"{line}, {time.monotonic() - self._began:.0f} s")

    def _print(self, task: Task) -> None:
        body, self._exits[task] = self._ready.pop(task)
        self._knows_a_job |= task.job_id is not None
        self._console.emit(body)
        if not self._stopped:  # thousands of prompts stay flat in memory
            task.job = task.files = task.prompt = task.on_record = None

    def _stopped_by(self, why: Failure, task: Task) -> Failure:
        if task.phase is Phase.SENT:
            # Time that is up has a code of its own for this; a signal's code says it by itself.
            type_ = why.type if why.type == "interrupted" else "submission_unknown"
            return Failure(
                type_, f"{why.message} while the submit was out", hint=KINDS["submission_unknown"].hint
            )
        if task.phase is Phase.NEW:
            task.phase = Phase.HELD_BACK
        return why
