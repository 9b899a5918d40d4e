"""The only module that speaks to the API: what may be sent again, and the three calls."""

from __future__ import annotations

import json
import math
import random
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from legnext.errors import Failure
from legnext.job import error_words, is_job_id, parse_job

from legnext.wire.settings import SUBMIT_PATH
from legnext.wire.transport import (
    Outcome,
    Outgoing,
    back_off,
    innermost,
    new_session,
    outcome_of_error,
    parse_retry_after,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legnext.job import Job
    from legnext.wire.settings import Settings

CONNECT_SECONDS = 10.0
# A submit that is given up on costs an agent its certainty, so it gets the longer time.
SUBMIT_SECONDS = 30.0
LOOK_SECONDS = 15.0
# What a request is given even where less is left until the deadline: less would fail on a good day.
LEAST_SECONDS = 5.0

TRIES = 4
# After this no further try of a single look-up begins, so that the command ends within a minute.
LOOK_PATIENCE = 20.0

# An answer is a few KB; beyond this it is a fault, and reading on would only fill memory.
MOST_BYTES = 4_000_000

# What a key shorter than this could be hidden in would no longer be readable.
SHORTEST_REDACTED_KEY = 6

_MODERATION = re.compile(
    r"banned|prohibit|content policy|nsfw|sensitive content|content moderation", re.IGNORECASE
)


Found = TypeVar("Found")


class Rule(NamedTuple):
    """Whether a look-up (GET) and a submit (POST) may be sent again, and whether a job may exist now."""

    look_again: bool
    submit_again: bool
    may_exist: bool
    reason: str


RULES: dict[Outcome, Rule] = {
    Outcome.UNREACHED: Rule(True, True, False, "nothing has left this machine"),
    Outcome.UNSENDABLE: Rule(False, False, False, "nothing has left, and a second try would fail alike"),
    Outcome.UNANSWERED: Rule(True, False, True, "it may have arrived and been taken"),
    Outcome.RATE_LIMITED: Rule(True, True, False, "the server says that it did not take it"),
    Outcome.TROUBLE: Rule(True, False, True, "a gateway says this also of what the API took"),
    Outcome.UNREADABLE: Rule(True, False, True, "it was taken, but the job's id is lost"),
    Outcome.REDIRECTED: Rule(False, False, False, "not taken; to follow would hand the key to another host"),
    Outcome.REFUSED: Rule(False, False, False, "the server says no, and why"),
}
"""The one place that decides what is sent again. There is no idempotency key: a POST that may have
arrived is never repeated."""


class Reply(NamedTuple):
    """An HTTP answer; `body` is its JSON made clean, or None where it is not JSON."""

    status: int
    body: object
    retry_after: float | None = None


def outcome_of_status(status: int) -> Outcome:
    """Classify an HTTP status; ANSWERED still has to prove itself by its body."""
    if 200 <= status < 300:
        return Outcome.ANSWERED
    if status == 429:
        return Outcome.RATE_LIMITED
    # 1xx: an answer is still to come, so what was sent may be at work.
    if status == 408 or status >= 500 or status < 200:
        return Outcome.TROUBLE
    if 400 <= status < 500:
        return Outcome.REFUSED
    return Outcome.REDIRECTED


def type_of_status(status: int, message: str) -> str:
    """Return the `error.type` of an HTTP status that is not 2xx (API reference, "Error Handling")."""
    if status in (400, 403) and _MODERATION.search(message):
        return "content_rejected"
    by_status = {
        400: "invalid_request",
        401: "invalid_api_key",
        402: "insufficient_balance",
        403: "forbidden",
        404: "not_found",
        408: "server_error",
        413: "invalid_request",
        422: "invalid_request",
        429: "rate_limited",
    }
    if status in by_status:
        return by_status[status]
    if status >= 500:
        return "server_error"
    return "api_error" if status >= 400 else "bad_response"


def parse_balance(body: object) -> dict[str, object]:
    """Return the account's numbers from the balance envelope.

    Raises Failure where the envelope's own `code` is not 200, whatever HTTP said, and ValueError where
    there is no account in it.
    """
    if not isinstance(body, dict):
        raise ValueError("not an object")
    code = body.get("code", 200)
    if code not in (200, "200"):
        _code, message = error_words(body)
        status = code if isinstance(code, int) and not isinstance(code, bool) else None
        message = message or f"the balance answer has code {code}"
        if status is None or not 400 <= status < 600:
            raise Failure("api_error", message, code=status)
        again = outcome_of_status(status) in (Outcome.TROUBLE, Outcome.RATE_LIMITED)
        raise Failure(type_of_status(status, message), message, code=status, transient=again)
    data = body.get("data")
    names = ("account_id", "balance_usd", "available_credits", "available_points")
    data = data if isinstance(data, dict) else {}
    account = {name: data[name] for name in names if isinstance(data.get(name), (str, int, float))}
    if not account:
        raise ValueError("no account in it")
    return account


def parse_submit(body: object) -> Job:
    """Return the new job. Raises ValueError where the body has no usable `job_id`."""
    body = body if isinstance(body, dict) else {}
    job_id = body.get("job_id")
    if not isinstance(job_id, str) or not is_job_id(job_id):
        raise ValueError(f"its job_id is {str(job_id)[:80]!r}, not a UUID" if job_id else "it has no job_id")
    # The id is what must not be lost: a body that is odd elsewhere still names a paid job.
    status = body.get("status")
    return parse_job({**body, "status": status if isinstance(status, str) and status else "pending"}, job_id)


class Api:
    """The three calls, over one connection that is kept open."""

    def __init__(self, where: Settings, trace: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing is sent. `trace` gets each exchange, without the key.

        Raises Failure `missing_dependency`.
        """
        self._where = where
        self._trace = trace
        self._session = new_session()

    def balance(self) -> dict[str, object]:
        """Return the account's numbers: `GET /api/account/balance`. Raises Failure."""
        return self._patiently(lambda: self._get("/api/account/balance", LOOK_SECONDS, parse_balance))

    def look(self, job_id: str, left: float = LOOK_SECONDS) -> Job:
        """Return the job: one `GET /api/v1/job/{job_id}`, given at most `left` seconds. Raises Failure."""
        seconds = min(LOOK_SECONDS, max(left, LEAST_SECONDS))
        return self._get(f"/api/v1/job/{job_id}", seconds, lambda body: parse_job(body, job_id))

    def look_patiently(self, job_id: str) -> Job:
        """Return the job; a look that fails in passing is tried again. Raises Failure."""
        return self._patiently(lambda: self.look(job_id))

    def submit(self, prompt: str, patience: float, sent: Callable[[bool], None]) -> Job:
        """Submit `prompt` and return the new job: `POST /api/v1/diffusion`.

        Sent again only where RULES allow it, and for `patience` seconds at most. `sent(True)` is called
        before each send and `sent(False)` once it is certain that this send created nothing, so that
        whoever stops the run can say which it was. Raises Failure.
        """
        start = time.monotonic()
        seconds = min(SUBMIT_SECONDS, max(patience, LEAST_SECONDS))
        tries = 0
        while True:
            tries += 1
            sent(True)
            outcome, failure, job = self._submit_once(prompt, seconds)
            if job is not None:
                return job
            assert failure is not None
            rule = RULES[outcome]
            if not rule.may_exist:
                sent(False)
            left = start + patience - time.monotonic()
            out_of_tries = outcome is Outcome.UNREACHED and tries >= TRIES
            if not rule.submit_again or out_of_tries or left <= 0:
                raise failure
            time.sleep(min(back_off(tries, failure.retry_after, jitter=random.random()), left))

    def _submit_once(self, prompt: str, seconds: float) -> tuple[Outcome, Failure | None, Job | None]:
        outcome, reply = self._send("POST", SUBMIT_PATH, seconds, {"text": prompt})
        message = reply if isinstance(reply, str) else ""
        if isinstance(reply, Reply):
            if outcome is Outcome.ANSWERED:
                try:
                    return outcome, None, parse_submit(reply.body)
                except ValueError as error:
                    outcome = Outcome.UNREADABLE
                    message = f"HTTP {reply.status}, but {error}: {_words(reply)}"
            elif not RULES[outcome].may_exist:
                return outcome, _failure(reply), None
            else:
                message = _words(reply)
        if RULES[outcome].may_exist:
            code = reply.status if isinstance(reply, Reply) else None
            failure = Failure("submission_unknown", f"the submit was sent, but: {message}", code=code)
        else:
            failure = Failure("network_error", message)
        return outcome, failure, None

    def _get(self, path: str, seconds: float, parse: Callable[[object], Found]) -> Found:
        outcome, reply = self._send("GET", path, seconds)
        again = outcome is Outcome.ANSWERED or RULES[outcome].look_again
        if isinstance(reply, str):
            raise Failure("network_error", reply, transient=again)
        if outcome is not Outcome.ANSWERED:
            raise _failure(reply, transient=again)
        try:
            return parse(reply.body)
        except ValueError as error:
            raise Failure(
                "bad_response",
                f"the answer is not of the documented shape: {error}",
                code=reply.status,
                transient=RULES[Outcome.UNREADABLE].look_again,
            ) from None

    def _patiently(self, get: Callable[[], Found]) -> Found:
        start = time.monotonic()
        for tries in range(1, TRIES + 1):
            try:
                return get()
            except Failure as failure:
                pause = back_off(tries, failure.retry_after, first=0.5, jitter=random.random())
                in_time = time.monotonic() + pause < start + LOOK_PATIENCE
                if not failure.transient or tries == TRIES or not in_time:
                    raise
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _send(
        self, method: str, path: str, seconds: float, body: object = None
    ) -> tuple[Outcome, Reply | str]:
        """Send once; return the outcome with the reply, or with what went wrong in words."""
        url = self._where.base_url + path
        begun = time.monotonic()
        outgoing = None if body is None else Outgoing(json.dumps(body, allow_nan=False).encode())
        try:
            status, headers, content = within(seconds, lambda: self._exchange(method, url, seconds, outgoing))
        except Exception as error:  # noqa: BLE001 - requests lets OSError, ValueError and urllib3's own pass
            outcome = outcome_of_error(error, left=None if outgoing is None else not outgoing.keep())
            words = self._clean(f"{outcome.value} ({innermost(error)})")[:400]
            self._tell(method, url, begun, words)
            return outcome, words
        retry_after = parse_retry_after(headers.get("Retry-After"), time.time())
        reply = Reply(status, self._parse(content), retry_after)
        # What is JSON is shown from its values: there the key is seen however it was escaped.
        shown = content.decode("utf-8", "replace") if reply.body is None else json.dumps(reply.body)
        self._tell(method, url, begun, f"{status} {shown}")
        if 300 <= status < 400:
            location = self._clean(headers.get("Location", ""))
            reply = reply._replace(
                body={"message": f"redirected to {location[:200]!r}, which is not followed"}
            )
        return outcome_of_status(status), reply

    def _exchange(
        self, method: str, url: str, seconds: float, outgoing: Outgoing | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        with self._session.request(
            method,
            url,
            data=outgoing,
            headers={
                "x-api-key": self._where.key,
                "Accept": "application/json",
                "Content-Type": "application/json" if outgoing else None,
            },
            timeout=(min(CONNECT_SECONDS, seconds), seconds),
            allow_redirects=False,  # requests would carry the key to another host
            stream=True,  # so that the size is bounded
        ) as response:
            content = b""
            for chunk in response.iter_content(65536):
                content += chunk
                if len(content) > MOST_BYTES:
                    break
            return response.status_code, response.headers, content

    def _parse(self, content: bytes) -> object:
        try:
            return self._clean(json.loads(content)) if len(content) <= MOST_BYTES else None
        except (ValueError, RecursionError):
            return None

    def _clean(self, value: Any) -> Any:
        """Return `value` without the key, lone surrogates, NaN and infinity: none may reach any output."""
        if isinstance(value, str):
            text = value.encode("utf-8", "replace").decode("utf-8")
            key = self._where.key
            return text.replace(key, "[key]") if len(key) >= SHORTEST_REDACTED_KEY else text
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {self._clean(name): self._clean(item) for name, item in value.items()}
        return value

    def _tell(self, method: str, url: str, begun: float, what: str) -> None:
        if self._trace:
            milliseconds = (time.monotonic() - begun) * 1000
            line = " ".join(self._clean(what).split())
            self._trace(f"{method} {url} {milliseconds:.0f} ms: {line[:4000]}")


def _failure(reply: Reply, *, transient: bool = False) -> Failure:
    message = _words(reply)
    return Failure(
        type_of_status(reply.status, message),
        message,
        code=reply.status,
        retry_after=reply.retry_after,
        transient=transient,
    )


def _words(reply: Reply) -> str:
    _code, words = error_words(reply.body)
    if words:
        return words[:1000]
    return f"HTTP {reply.status}" + ("" if reply.body is not None else " with a body that is not JSON")
