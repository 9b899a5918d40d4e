"""Threads: calls side by side, and a call within its time."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(items: Sequence[Item], work: Callable[[Item], None], limit: int) -> None:
    """Call `work` with each of `items`, in at most `limit` threads, and return when all are done.

    Raises the first exception that a call raised, at the end.
    """
    todo = deque(items)
    raised: list[BaseException] = []

    def worker() -> None:
        while True:
            try:
                item = todo.popleft()
            except IndexError:
                return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)

    threads = [Thread(target=worker, daemon=True) for _ in range(min(limit, len(items)) - 1)]
    for thread in threads:
        thread.start()
    worker()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


class TimedOut(Exception):  # noqa: N818 - a state of affairs
    """The whole exchange took longer than it was given."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what `call` returns, or raise TimedOut after `seconds`.

    The time-out of requests bounds the gap between two bytes, so a server that sends a byte now and then
    could hold a run for hours, and a name look-up is not bounded at all. The thread that is given up on
    ends with the process.
    """
    box: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            box.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            box.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        result, error = box.get(timeout=seconds)
    except Empty:
        raise TimedOut(f"no whole answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return cast("Result", result)
