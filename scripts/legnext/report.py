"""What a run prints: JSON objects and their total on stdout, progress on stderr."""

import contextlib
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from legnext import SIGNALS, budget
from legnext.download import describe_files
from legnext.errors import FREE, KINDS, SAME, Exit, Failure, exit_code, run_exit_code
from legnext.job import age_seconds, usd, without_empty
from legnext.options import Options
from legnext.settings import redact
from legnext.task import Task

SCRIPTS = Path(__file__).resolve().parents[1]
GALLERY = "gallery.html"
LINE_SECONDS = 30.0  # without a line on stderr
STUCK_SECONDS = 600.0
STATES = ("completed", "failed", "refused", "unfinished", "unknown", "not_submitted")
REFUSED = ("invalid_prompt", "invalid_request", "content_rejected", "forbidden", "not_found")


def shell_command(script: str, *arguments: str) -> str:
    """Return a shell command that runs a script from any directory."""
    uv = os.environ.get("UV")  # its interpreter may be gone tomorrow
    program = [Path(uv).as_posix(), "run", "-q"] if uv else [sys.executable or "python3"]
    words = [*program, (SCRIPTS / script).as_posix(), *arguments]
    if os.name == "nt":
        return " ".join(f'"{word}"' if " " in word else word for word in words)
    return shlex.join(words)


def resume_command(job_id: str, options: Options) -> str:
    where = ["--output-dir", str(options.output_dir)] if options.output_dir else []
    return shell_command("get_task.py", job_id, "--wait", *options.waiting_flags, *where)


def state_of(task: Task) -> str:
    if task.job and task.job.has_failed:
        return "failed"
    if task.job_id:
        has_all = task.job and task.job.has_succeeded and not task.error
        return "completed" if has_all else "unfinished"
    if task.outcome_unknown:
        return "unknown"
    return "refused" if task.error and task.error.type in REFUSED else "not_submitted"


def describe(task: Task, options: Options, folder: Path | None) -> dict[str, Any]:
    """Return all that is printed of a task but its failure."""
    job = task.job.as_json() if task.job else {}
    body: dict[str, Any] = {"index": task.index, "job_id": task.job_id}
    body["status"] = job.get("status", "" if task.job_id else state_of(task))
    body["prompt"] = task.record.get("prompt") or task.prompt
    if options.is_batch and options.output_dir:  # everything else is in the job's folder
        body |= {"cost_usd": job.get("cost_usd"), "dir": folder and str(folder)}
    else:
        body |= {"submitted_at": task.submitted_at if task.job else "", **job}
        if folder and task.job and (files := describe_files(folder, task.job)):
            body["files"] = {**files, "gallery": str(folder.parent / GALLERY)}
    body |= {"earlier": task.is_earlier or None, "warnings": task.warnings}
    return without_empty(body)


def describe_failure(task: Task, failure: Failure, code: int, options: Options) -> dict[str, Any]:
    """Return `error`, and `resume` or the numbers of an unknown submit."""
    body: dict[str, Any] = {}
    hints = [KINDS[failure.type].hint.removeprefix(FREE)] if task.job_id else []
    if task.outcome_unknown:
        body = {"submitted_at": task.submitted_at, "price_usd": task.price_usd}
        body["balance_usd"] = {"before": None, "after": None, **task.balance}
        hints = [balance_hint(task), KINDS["submission_unknown"].hint]
        if task.intent:
            hints.append(f"If they agree, delete {task.intent} and run {SAME}.")
    elif task.job_id and (code == Exit.RESUME or failure.type == "interrupted"):
        resume = body["resume"] = resume_command(task.job_id, options)
        is_alone = options.job_ids or options.again or not options.output_dir
        same = "" if is_alone else f"{SAME}, or "
        words = f"Do not submit it again. Continue with {same}{resume}"
        hints = [KINDS[failure.type].hint_with_job, stuck_hint(task), words]
    error = failure.as_json(*hints)
    return {**body, "error": {**error, "hint": error["hint"].replace(SAME, options.repetition)}}


def stuck_hint(task: Task) -> str:
    if task.job is None or task.job.is_final:
        return ""
    age = age_seconds(task.submitted_at or task.job.meta.get("created_at")) or 0.0
    words = f"Submitted {age / 60:.0f} minutes ago, it is stuck: ask the user, and stop."
    return words if age >= STUCK_SECONDS else ""


def balance_hint(task: Task) -> str:
    before, after, price = task.balance.get("before"), task.balance.get("after"), task.price_usd
    if before is not None and after is not None and price and after <= before - price + 0.0005:
        return "The balance is lower by the price: probably paid, or something else was bought."
    check = shell_command("verify_api_key.py")
    return f"Whether it was paid is not clear yet: in 15 minutes, run {check}."


def total_of(tasks: list[Task], options: Options) -> dict[str, Any]:
    """Return a batch's last object. `bought` and `cost_usd` are this run's own."""
    states = [state_of(task) for task in tasks]
    bought = [cost_or_price(task) for task in tasks if task.bought_at]
    total: dict[str, Any] = {"prompts": len(tasks)}
    total |= {name: states.count(name) for name in STATES}
    total |= {"earlier": sum(task.is_earlier for task in tasks), "bought": len(bought)}
    total["cost_usd"] = budget.total(bought)
    if options.lists_all:
        total["spent_usd"] = budget.total([cost_or_price(task) for task in tasks])
    return total


def cost_or_price(task: Task) -> float | None:
    if task.job and task.job.is_final:
        return task.job.cost_usd
    return usd(task.record.get("price_usd")) if task.record else task.price_usd


class Reporter:
    """Prints each task once, when it is over or the run is stopped. Threads share it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.log = self.always_say if options.verbose else None  # of HTTP exchanges
        self.stop = threading.Event()  # set when a signal ends the run
        self.tasks: list[Task] = []  # in input order
        self.folders: Mapping[str, Path] = {}  # of jobs, by id; the store's
        self.page: Path | None = None  # once it is written
        self._lock = threading.RLock()
        self._codes: dict[Task, int] = {}  # of the tasks that have ended
        self._bodies: dict[Task, dict[str, Any]] = {}  # that wait for their turn
        self._other_codes: list[int] = []  # of what is not about one task
        self._is_lost = False  # stdout did not take a result
        self._began = self._last_line = time.monotonic()
        redraws = sys.stderr and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._live = redraws and not (options.quiet or options.verbose)
        self._live_line = ""
        self._indent = 2 if sys.stdout and sys.stdout.isatty() else None

    def print_json(self, body: dict[str, Any], failure: Failure | None = None) -> None:
        with self._lock:
            if failure:
                self._other_codes.append(exit_code(failure.type))
                body = {**body, "error": failure.as_json()}
            self._draw("")
            text = json.dumps(body, indent=self._indent)
            self._is_lost |= not write(sys.stdout, redact(text) + "\n")

    def say(self, line: object) -> None:
        if not self.options.quiet:
            self.always_say(line)

    def always_say(self, line: object) -> None:
        with self._lock:
            shown, self._last_line = self._live_line, time.monotonic()
            self._draw("")
            text = "".join(c if c.isprintable() else " " for c in str(line))  # no escape sequences
            write(sys.stderr, redact(text).encode("ascii", "backslashreplace").decode() + "\n")
            self._draw(shown)

    def say_status(self, task: Task) -> None:
        if not self._live:
            self.say(f"{task}, {self._elapsed()}")

    def tick(self) -> None:
        """Update the live line, or print a line if there was none for LINE_SECONDS."""
        left = [task for task in self.tasks if task not in self._codes]
        running, count = sum(bool(task.job_id) for task in left), len(self.tasks)
        line = f"{count - len(left)} of {count} done, {running} running, {self._elapsed()}"
        if len(left) == count == 1:
            line = f"{left[0]}, {self._elapsed()}"
        if self._live:
            with self._lock:
                self._draw(line)
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self.say(line)

    def print_task(self, task: Task, failure: Failure | None) -> None:
        with self._lock:
            if task in self._codes:
                return
            task.error, options = failure, self.options
            body, code = describe(task, options, self.folders.get(task.job_id)), int(Exit.DONE)
            if failure:
                exists, is_given = task.job is not None, bool(options.job_ids)
                code = exit_code(failure.type, job_exists=exists, id_given=is_given)
                body |= describe_failure(task, failure, code, options)
                if failure.type != "job_failed":  # its status says so
                    self.say(f"{task}: {failure.type}")
            self._codes[task], self._bodies[task] = code, body
            for ready in self.tasks if options.job_ids is not None else [task]:
                if ready not in self._codes:
                    return
                if ready in self._bodies:
                    self.print_json(self._bodies.pop(ready))

    def print_together(self, tasks: list[Task], block: budget.Block) -> None:
        """Print one object for all tasks that may not be bought."""
        with self._lock:
            for task in tasks:
                task.error, self._codes[task] = block.failure, exit_code(block.failure.type)
            indexes = {"indexes": [task.index for task in tasks]} if self.options.is_batch else {}
            self.print_json({**indexes, **block.facts}, block.failure)

    def interrupt(self, signal: str) -> int:
        """Print what is left after a signal; return the exit code."""
        failure = Failure("interrupted", f"stopped by {signal}")
        for task in self.tasks:
            task.outcome_unknown |= task.is_submitting and not task.job_id
            self.print_task(task, failure)
        if not self.tasks and not self._other_codes:
            self.print_json({}, failure)
        code, types = self.print_total(), [task.error.type for task in self.tasks if task.error]
        return SIGNALS[signal] if "interrupted" in types or not self.tasks else code

    def print_total(self) -> int:
        """Print the total, if there is one, and return the exit code of the run."""
        with self._lock:
            has_run = self.tasks or not self._other_codes
            if self.options.is_batch and has_run and not self.options.dry_run:
                where = {"output_dir": self.options.output_dir, "gallery": self.page}
                paths = {name: str(path) for name, path in where.items() if path}
                self.print_json({"total": {**total_of(self.tasks, self.options), **paths}})
            self._draw("")
            ended = [self._codes[task] for task in self.tasks if task in self._codes]
            code = run_exit_code(ended + self._other_codes)
            if self._is_lost and code == Exit.DONE:
                code = Exit.RESUME if any(task.job_id for task in self.tasks) else Exit.RETRY
            return code

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"

    def _draw(self, line: str) -> None:
        if self._live and line != self._live_line:
            write(sys.stderr, f"\r{line}\x1b[K")
            self._live_line = line


def write(stream: TextIO | None, text: str) -> bool:
    with contextlib.suppress(ValueError, OSError):
        if stream:
            stream.write(text)
            stream.flush()
            return True
    return False
