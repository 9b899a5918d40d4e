"""Tasks through their steps, each printed at its end; many side by side, and what an earlier run left."""

from __future__ import annotations

from threading import Semaphore, Thread
from typing import TYPE_CHECKING

from legnext.command import unexpected
from legnext.errors import Failure
from legnext.lifecycle import Tools, as_files, finish, follow, on_disk, submit
from legnext.output_dir import Record, Trace
from legnext.report import unknown_hint
from legnext.resume import claim
from legnext.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legnext.report import Task


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
