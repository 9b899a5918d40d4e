"""Tasks through their steps, each printed at its end; many side by side, and what an earlier run left."""

from __future__ import annotations

from collections import defaultdict
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

from legnext.disk.output_dir import Record, Trace
from legnext.errors import Failure
from legnext.jobs.lifecycle import (
    Tools,
    advance,
    as_files,
    complete,
    finish,
    follow,
    on_disk,
    side_by_side,
    submit,
)
from legnext.jobs.report import unknown_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from legnext.jobs.task import Task


def generate(tasks: Sequence[Task], tools: Tools, at_once: int) -> None:
    """Submit, wait for and finish every task, at most `at_once` jobs side by side.

    A new one is submitted the moment a job ends: its images are fetched beside. A 401 or 402 would meet
    every other prompt too, so nothing more is submitted after it.
    """
    refused: list[Failure] = []
    # Where the images come slower than the jobs end, the jobs wait: threads and memory stay flat.
    room = Semaphore(at_once)

    def gate(task: Task, _tools: Tools) -> None:
        if task.trace:
            raise Failure(
                "submission_unknown",
                "an earlier run sent this prompt, and whether it created a job is not known",
                hint=unknown_hint(task.trace),
            )
        if refused:
            task.held_back = True
            first = refused[0]
            raise Failure(first.type, f"not submitted: {first.message}", code=first.code)

    def end(task: Task) -> None:
        try:
            complete(task, tools, finish)
        finally:
            room.release()

    def run(task: Task) -> None:
        if task.job is not None and task.job.settled:
            steps: tuple[Callable[[Task, Tools], None], ...] = ()
        else:
            steps = (follow,) if task.job_id else (gate, submit, follow)
        failure = advance(task, tools, *steps)
        if failure:
            if failure.type in ("invalid_api_key", "insufficient_balance"):
                refused.append(failure)
            return
        room.acquire()
        if len(tasks) == 1 or not steps:
            end(task)
            return
        Thread(target=end, args=(task,), daemon=True).start()

    # Threads are for waiting; what an earlier run has finished is only reported, faster by one.
    side_by_side([task for task in tasks if not report_finished(task, tools)], run, at_once)
    for _ in range(at_once):
        room.acquire()


def report_finished(task: Task, tools: Tools) -> bool:
    """Report a job that an earlier run has finished, with all its images; say whether it is one."""
    if not (task.job and task.job.settled and tools.directory):
        return False
    found = on_disk(task.job, tools.directory)
    if None in found.values():
        return False
    task.files = as_files(found, tools.directory)
    tools.board.settle(task)
    return True


def resume(tasks: Sequence[Task], tools: Tools) -> None:
    """Give the tasks the jobs that the output directory has for their prompts.

    A prompt whose submit left a trace and no job gets the trace, for which `generate` will not submit it.
    """
    assert tools.directory is not None
    prompts = [task.prompt or "" for task in tasks]
    for task, found in zip(
        tasks, claim(prompts, tools.directory.records(), tools.directory.traces()), strict=True
    ):
        if isinstance(found, Record):
            task.on_record, task.given, task.submitted_at = found.job, True, found.submitted_at
            tools.board.submitted(task, found.job)
        elif isinstance(found, Trace):
            task.trace = found.path


def claim(
    prompts: Sequence[str], records: Iterable[Record], traces: Iterable[Trace]
) -> list[Record | Trace | None]:
    """Return for each prompt the record or trace that it claims, or None: to be submitted.

    Each record is claimed once, completed ones first, then by time. A failed job counts as not done. A
    trace (a submit whose outcome nobody knows) is claimed where no record is left.
    """
    wanted = set(prompts)
    found: dict[str, list[Record | Trace]] = defaultdict(list)
    usable = [r for r in records if r.prompt in wanted and r.job.status != "failed"]
    for record in sorted(usable, key=lambda r: (not r.job.completed, r.submitted_at or "")):
        found[record.prompt or ""].append(record)
    for trace in traces:
        found[trace.prompt].append(trace)
    return [found[prompt].pop(0) if found[prompt] else None for prompt in prompts]
