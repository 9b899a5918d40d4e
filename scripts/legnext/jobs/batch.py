"""Many prompts side by side: which are known from an earlier run, and who may submit.

The same prompt n times claims n records, so that the same command again buys nothing; and at no time are more
jobs unfinished than the account runs at once, timed-out ones included, for those run on at Legnext.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from threading import Condition
from typing import TYPE_CHECKING

from legnext.disk.output_dir import Record, Trace
from legnext.errors import Failure, Phase
from legnext.jobs.lifecycle import (
    finish,
    follow,
    give_up,
    hold_back,
    keep,
    recall,
    report_finished,
    stand_for,
    submit,
    take_through,
    threads,
)
from legnext.jobs.price import over_budget, price, too_expensive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from legnext.disk.output_dir import OutputDir
    from legnext.jobs.lifecycle import Run
    from legnext.jobs.task import Task


LOOKS_AT_ONCE = 6


def claim(
    prompts: Sequence[str], records: Iterable[Record], traces: Iterable[Trace], *, retry_failed: bool = False
) -> list[Record | Trace | None]:
    """Return for each prompt the record or trace that it claims, or None: to be submitted.

    Each record is claimed once: completed ones first, then those that run, then failed ones (unless they are
    to be retried), each by time. A trace (a submit whose outcome nobody knows) is claimed where no record is
    left; one that is held is another run's, which will have a record soon.
    """
    wanted = set(prompts)
    found: dict[str, list[Record | Trace]] = defaultdict(list)
    usable = [r for r in records if r.prompt in wanted and not (retry_failed and r.job.status == "failed")]
    for record in sorted(usable, key=_rank):
        found[record.prompt or ""].append(record)
    for trace in traces:
        if not trace.held:
            found[trace.prompt].append(trace)
    return [found[prompt].pop(0) if found[prompt] else None for prompt in prompts]


def _rank(record: Record) -> tuple[int, str]:
    order = {"completed": 0, "failed": 2}
    return order.get(record.job.status, 1), record.submitted_at or ""


def pick_up(
    tasks: Sequence[Task], directory: OutputDir, *, again: bool, retry_failed: bool, drop: bool = True
) -> None:
    """Give the tasks the jobs that the output directory has for their prompts (not if bought `again`).

    A prompt whose submit left a trace and no job gets the trace, for which it is not submitted; `drop`
    removes traces that are answered. Raises Failure `file_error`.
    """
    records = [] if again else directory.take_records()
    claimed = claim(
        [t.prompt or "" for t in tasks], records, directory.traces(drop=drop), retry_failed=retry_failed
    )
    for task, found in zip(tasks, claimed, strict=True):
        if isinstance(found, Record):
            task.found(found.job, found.prompt, found.submitted_at)
        elif isinstance(found, Trace):
            directory.take(found.path)
            stand_for(task, found)


class _Slots:
    """The jobs that may be unfinished at once, taken in turn. One left unfinished keeps its slot."""

    def __init__(self, count: int) -> None:
        self._free = self._usable = count
        self._turn = 0
        self._changed = Condition()

    def take(self, turn: int) -> bool:
        """Wait for one's turn and a slot; False where all are kept by jobs that nobody waits for now."""
        with self._changed:
            self._changed.wait_for(lambda: turn == self._turn and (self._free or not self._usable))
            self._turn += 1
            self._free -= bool(self._usable)
            self._changed.notify_all()
            return self._usable > 0

    def give_back(self, *, unfinished: bool) -> None:
        """Free a slot, unless its job is `unfinished`."""
        with self._changed:
            if unfinished:
                self._usable -= 1
            else:
                self._free += 1
            self._changed.notify_all()


def generate(
    tasks: Sequence[Task],
    run: Run,
    at_once: int,
    *,
    budget: float | None = None,
    check_balance: bool = True,
) -> None:
    """Submit, wait for and finish every task, at most `at_once` jobs unfinished side by side.

    The next is submitted the moment a job ends: its images are fetched beside. A 401 or 402, before the first
    submit or at one, would meet every other prompt too, so nothing more is submitted after it. Where the run
    has no schedule each is only submitted, or told as it is on record. `budget` is in USD.
    """
    new = [task for task in tasks if task.phase is Phase.NEW]
    for task in tasks:
        if task.earlier:
            run.progress.found(task)
    left = [task for task in tasks if not report_finished(task, run)]
    turns = {task: turn for turn, task in enumerate(filter(_is_open, left))}
    slots = _Slots(at_once)
    refused: list[Failure] = []
    balance = _look_at_money(new, run, refused, budget, check_balance=check_balance)

    def make(task: Task, _run: Run) -> None:
        """Submit the task if nobody has, and wait until its job has ended."""
        if not slots.take(turns[task]):
            hold_back(task)
            raise Failure("timeout", "all slots are taken by jobs that were not finished in time")
        try:
            if not task.job_id:
                if refused:
                    hold_back(task)
                    first = refused[0]
                    raise Failure(
                        first.type, f"not submitted: {first.message}", code=first.code, hint=first.hint
                    )
                submit(task, run, balance)
            if run.schedule:
                follow(task, run)
        except Failure as failure:
            if failure.type in ("invalid_api_key", "insufficient_balance") and not task.job_id:
                refused.append(failure)
            raise
        finally:
            slots.give_back(unfinished=task.job is not None and not task.job.ended)

    def work(task: Task) -> None:
        if task.phase is Phase.SENT:
            take_through(task, run, give_up)
        else:
            take_through(task, run, *((make,) if task in turns else ()), finish if run.schedule else keep)

    # Twice as many threads as slots: one half waits for jobs, the other fetches images.
    _side_by_side(work, left, 2 * at_once, run)


def look_at(tasks: Sequence[Task], run: Run, step: Callable[[Task, Run], None]) -> None:
    """Take each job whose id the user gave through `step` (a look, or to follow it), and finish it."""
    for task in tasks:
        recall(task, run)

    def work(task: Task) -> None:
        take_through(task, run, step, finish)

    _side_by_side(work, tasks, LOOKS_AT_ONCE, run)


def _side_by_side(work: Callable[[Task], None], tasks: Sequence[Task], most: int, run: Run) -> None:
    """Do the work for every task, `most` at once; where there are no threads for it, say so of each."""
    if len(tasks) == 1:
        work(tasks[0])
    elif tasks:
        try:
            pool = threads(min(most, len(tasks)))
        except Failure as failure:
            for task in tasks:
                hold_back(task)
                run.progress.end(task, failure)
        else:
            list(pool.map(work, tasks))
    run.close()


def _is_open(task: Task) -> bool:
    return task.phase is Phase.NEW or bool(task.job and not task.job.settled)


def _look_at_money(
    new: Sequence[Task], run: Run, refused: list[Failure], budget: float | None, *, check_balance: bool
) -> float | None:
    """Return the balance in USD, None if not known; note in `refused` why nothing may be submitted."""
    if not new:
        return None
    cost = price(task.prompt for task in new)
    too_much = over_budget(cost, budget)
    if too_much:
        refused.append(too_much)
        return None
    try:
        balance = run.api.balance_usd()
    except Failure as failure:
        if failure.type == "invalid_api_key":
            refused.append(failure)
        return None  # the look is a courtesy: whatever is wrong will meet the submit as well
    too_little = too_expensive(cost, balance) if check_balance else None
    if too_little and run.directory and not run.again:
        # What another run is buying meanwhile has gone off the balance, and is picked up, not bought.
        wanted = Counter(task.prompt for task in new) - Counter(run.directory.submitted_meanwhile())
        too_little = too_expensive(price(wanted.elements()), balance)
    if too_little:
        refused.append(too_little)
    return balance
