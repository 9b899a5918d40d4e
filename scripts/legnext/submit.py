"""The one place that spends money.

What holds, whatever happens (kill, full disk, rename, outage, a second run in the folder):
1. Nothing is bought that the plan did not approve.
2. At most one submit is out per directory, and its intent is written before it is sent.
3. A prompt with a record, or an intent of unknown outcome, is not submitted again.
4. A submit that may have arrived is never repeated: without a job id its outcome is unknown.
5. A job id that arrived is written into the intent at once, and then becomes a record.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from legnext.api import Client, backoff_delay
from legnext.budget import over_daily_limit
from legnext.errors import Failure, as_failure
from legnext.job import without_empty
from legnext.records import Intent, note_job_id, remove_intent, write_intent
from legnext.settings import daily_limit
from legnext.store import Store
from legnext.task import Record, Task

CONNECTION_TRIES = 3
NOT_PLANNED = "another command was submitting it at the start"
ENDS_BUYING = (  # what the next submit would meet too
    "insufficient_balance",
    "invalid_api_key",
    "network_error",
    "setup_error",
    "submission_unknown",
)


@dataclass
class Buyer:
    """What the submits of a run share. `unconnected` changes only under the lock."""

    client: Client
    store: Store
    stop: threading.Event
    announce: Callable[[Task], None]  # called once a job id is known
    again: bool = False  # buy even if there is a record
    balance_usd: float | None = None  # before the next submit
    stop_reason: str = ""  # why no further submit begins
    unconnected: int = 0  # submits in a row that found no connection


def submit(task: Task, buyer: Buyer) -> None:  # noqa: C901, PLR0912 - it reads top to bottom
    """Give the task a job: one on record, or a new one. Raises Failure, OSError.

    After a transient Failure (429, no connection) it may be called again.
    """
    store = buyer.store
    with store.lock(buyer.stop):
        # Is there a job of this prompt, or may there be one?
        store.settle_intents()
        if store.damaged:
            raise store.damaged
        if not buyer.again and (found := store.claim(task)):
            task.adopt(found)
            return
        if earlier := store.claim_unknown(task):
            task.set_submit(earlier.record)
            task.outcome_unknown = True
            raise Failure("submission_unknown", "the outcome of an earlier submit is unknown")

        # May it be bought? `is_submitting` is set before `stop` is read, and read after `stop` is
        # set: a submit is either seen, or does not begin.
        record = new_record(task, buyer)
        task.set_submit(record)
        task.is_submitting = True
        try:
            if reason := buyer.stop_reason if task.approved else NOT_PLANNED:
                raise Failure("not_submitted", f"not submitted: {reason}")
            if block := over_daily_limit([task.price_usd], daily_limit(), *store.submits()):
                raise block.failure  # another command has bought since this one was planned
            if buyer.stop.wait(backoff_delay(buyer.unconnected) if buyer.unconnected else 0.0):
                raise Failure("interrupted", "stopped before the submit")
            intent = write_intent(store.directory, record) if store.directory else None
            task.intent = intent.path if intent else None
        except (Failure, OSError) as error:
            if isinstance(error, OSError):
                buyer.stop_reason = f"the folder cannot be written: {error}"
            task.is_submitting = False
            raise

        # Buy it.
        try:
            job = buyer.client.submit(task.prompt)
            if job.job_id in store.records or job.job_id in store.foreign:
                raise Failure("submission_unknown", f"the answer names a known job: {job.job_id}")
        except Exception as error:  # noqa: BLE001 - a bug of ours too: the POST may be out
            raise not_bought(task, buyer, intent, error) from None

        # From here on there is a job, and nothing below can lose it.
        if intent:
            note_job_id(intent, job.job_id)
        task.set_job(job)
        task.bought_at, task.approved, task.is_submitting = time.monotonic(), False, False
        store.claimed.add(job.job_id)
        before, price = buyer.balance_usd, task.price_usd
        buyer.balance_usd = None if before is None or price is None else round(before - price, 3)
        buyer.unconnected = 0
        buyer.announce(task)
        try:
            store.add_record({**record, **job.as_record()})
            if intent:
                remove_intent(intent)
        except (OSError, Failure) as error:  # the intent is the record until a folder can be made
            buyer.stop_reason = f"the last job could not be recorded: {as_failure(error).message}"


def not_bought(task: Task, buyer: Buyer, intent: Intent | None, error: Exception) -> Failure:
    """Settle a submit without a job; return the Failure to raise."""
    failure = error if isinstance(error, Failure) else Failure("submission_unknown", repr(error))
    buyer.unconnected = buyer.unconnected + 1 if failure.type == "network_error" else 0
    if buyer.unconnected:
        failure.transient = buyer.unconnected < CONNECTION_TRIES
    if failure.type in ENDS_BUYING and not failure.transient:
        buyer.stop_reason = failure.message
    if failure.type == "submission_unknown":
        task.outcome_unknown, task.approved = True, False
        buyer.store.claimed |= {intent.path.name} if intent else set()
    elif intent:
        remove_intent(intent)
    task.is_submitting = False
    return failure


def new_record(task: Task, buyer: Buyer) -> Record:
    """Return what is recorded of a submit before it is sent."""
    return {
        **without_empty({"prompt": task.prompt, "typed": task.typed, "name": task.name}),
        "submitted_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),  # as the API writes it
        "nonce": secrets.token_hex(8),
        "host": buyer.store.host,
        "price_usd": task.price_usd,
        "balance_usd": buyer.balance_usd,
    }
