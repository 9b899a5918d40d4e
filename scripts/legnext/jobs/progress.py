"""The tasks of a run: each is printed once, when it is settled or when the run is stopped."""

from __future__ import annotations

import time
from threading import RLock
from typing import TYPE_CHECKING

from legnext.errors import Exit, Failure, Stage
from legnext.jobs.report import report, unknown_hint
from legnext.jobs.task import Task

if TYPE_CHECKING:
    from legnext.console import Console
    from legnext.job import Job


class Board:
    """What is known of every task, for printing, for progress and for signals. Safe to use from threads."""

    def __init__(self, console: Console) -> None:
        """Begin with no task."""
        self._console = console
        self._lock = RLock()
        self._tasks: list[Task] = []
        self._ready: dict[Task, tuple[dict[str, object], Exit]] = {}
        self._exits: dict[Task, Exit] = {}
        self._in_order = False
        self._stopped = False
        self._began = time.monotonic()
        self._output_dir: str | None = None

    def begin(self, tasks: list[Task], *, output_dir: str | None, in_order: bool = False) -> None:
        """Take on the run's tasks, in input order; `in_order` prints them so, else as they end."""
        with self._lock:
            self._tasks = tasks
            self._in_order = in_order
            self._output_dir = output_dir

    def sending(self, task: Task, out: bool) -> None:
        """Note that the task's submit is about to be sent, or that it certainly created nothing.

        Once the run is being stopped this never returns: what is reported as not submitted never is.
        """
        with self._lock:
            task.sent = out

    def submitted(self, task: Task, job: Job) -> None:
        """Show the id of a job, just created or found on record: on stderr, whatever --quiet says."""
        # Before the lock, which a run that is being stopped does not give back: it still finds the id.
        task.job, task.stage, task.job_id = job, Stage.SUBMITTED, job.job_id
        with self._lock:
            task.sent = False
            self._console.say(f"{task.label} {job.status}", always=True)

    def seen(self, task: Task, job: Job) -> None:
        """Take in the job as just looked at; a line only where its status has changed."""
        with self._lock:
            changed = task.job is None or task.job.status != job.status
            task.job = job
            if changed:
                self._say(f"{task.label} {job.status}")

    def settle(self, task: Task, failure: Failure | None = None) -> None:
        """Print the task's object, once: its work is over, well or not."""
        with self._lock:
            if self._stopped or task in self._exits or task in self._ready:
                return
            body, exit_ = report(task, failure, self._output_dir)
            if failure and failure.type != "job_failed":  # that is said as a status
                self._say(f"{task.label} {failure.type}")
            self._ready[task] = (body, exit_)
            if not self._in_order:
                self._print(task)
            else:
                while len(self._exits) < len(self._tasks) and self._tasks[len(self._exits)] in self._ready:
                    self._print(self._tasks[len(self._exits)])

    def exit(self) -> Exit:
        """Return the exit code of the run: of its first failure in input order."""
        with self._lock:
            failures = (self._exits[task] for task in self._tasks if self._exits.get(task, Exit.DONE))
            return next(failures, Exit.DONE)

    def stop(self, exit_: Exit) -> bool:
        """Print what has not been printed, as interrupted; nothing is printed after. False: no task yet."""
        # A worker may hold the lock for as long as nobody reads stdout; then nothing can be printed anyway.
        if not self._lock.acquire(timeout=0.5):
            return True
        self._stopped = True
        for task in self._tasks:
            if task in self._ready:
                self._print(task)
            elif task not in self._exits:
                self._console.emit(self._interrupted(task, exit_))
        return bool(self._tasks)

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
        self._console.emit(body)
        # Thousands of prompts stay flat in memory.
        task.job = task.files = task.prompt = None

    def _interrupted(self, task: Task, exit_: Exit) -> dict[str, object]:
        unknown = task.sent and not task.job_id
        failure = Failure(
            "interrupted",
            f"stopped by {exit_.name}" + (" while the submit was out" if unknown else ""),
            hint=unknown_hint(task.trace) if unknown else None,
        )
        task.held_back = not task.job_id and not task.sent
        return report(task, failure, self._output_dir)[0]
