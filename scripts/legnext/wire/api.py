"""The only module that speaks to the API: its three calls, and the key, which goes nowhere else."""

from __future__ import annotations

import json
import math
import random
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from legnext.errors import Failure
from legnext.job import A_JOB_ID, error_words, is_job_id, is_moderation, parse_job
from legnext.wire.settings import SUBMIT_PATH
from legnext.wire.transport import (
    POLICY,
    Outcome,
    Outgoing,
    Session,
    back_off,
    innermost,
    outcome_of_error,
    outcome_of_status,
    parse_retry_after,
    pieces,
    setup_hint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from legnext.job import Job
    from legnext.wire.settings import Settings

# To give up sooner makes an orphan of a paid job: a link that was down for 20 s lost six of six with 30 s
# for an answer, and none with 90.
SUBMIT_SECONDS = 90.0
LOOK_SECONDS = 15.0
BALANCE_SECONDS = 5.0
# What a look is given even where less is left until the deadline: less would fail on a good day.
LEAST_SECONDS = 5.0

TRIES = 4
# After this no further try of a single look-up begins, so that the command ends within a minute.
LOOK_PATIENCE = 20.0

# An answer is a few KB; beyond this it is a fault, and reading on would only fill memory.
MOST_BYTES = 4_000_000

# What a key shorter than this could be hidden in would no longer be readable.
SHORTEST_REDACTED_KEY = 6

_TYPES = {
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
"""`error.type` by HTTP status (API reference, "Error Handling"; 403, 404, 413, 422: vendor documentation)."""

Found = TypeVar("Found")


class Reply(NamedTuple):
    """How one request ended. `words` say what was wrong, if anything; `body` is JSON made clean, or None."""

    outcome: Outcome
    words: str
    status: int | None = None
    body: object = None
    retry_after: float | None = None
    hint: str | None = None
    html: bool = False


def type_of_status(status: int, message: str) -> str:
    """Return the `error.type` of an HTTP status that is not 2xx."""
    if status in (400, 403) and is_moderation(message):
        return "content_rejected"
    if status in _TYPES:
        return _TYPES[status]
    if status >= 500:
        return "server_error"
    if outcome_of_status(status) in (Outcome.REDIRECTED, Outcome.SEE_OTHER):
        return "setup_error"
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
        raise ValueError(
            f"its job_id is {str(job_id)[:80]!r}, not {A_JOB_ID}" if job_id else "it has no job_id"
        )
    # The id is what must not be lost: a body that is odd elsewhere still names a paid job.
    status = body.get("status")
    return parse_job({**body, "status": status if isinstance(status, str) and status else "pending"}, job_id)


class Api:
    """The three calls, over connections that are kept open."""

    def __init__(self, where: Settings, trace: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing is sent. `trace` gets each exchange, without the key.

        Raises Failure `missing_dependency`.
        """
        self._where = where
        self._trace = trace
        self._hide = _hider(where.key)
        self._session = Session()

    def balance(self) -> dict[str, object]:
        """Return the account's numbers: `GET /api/account/balance`, again in trouble. Raises Failure."""
        return self._patiently(lambda: self._get("/api/account/balance", LOOK_SECONDS, parse_balance))

    def balance_usd(self) -> float | None:
        """Return the balance in USD by one look, within BALANCE_SECONDS; None where it does not tell.

        Raises Failure.
        """
        account = self._get("/api/account/balance", BALANCE_SECONDS, parse_balance)
        usd = account.get("balance_usd")
        return float(usd) if isinstance(usd, (int, float)) and not isinstance(usd, bool) else None

    def look(self, job_id: str, left: float = LOOK_SECONDS) -> Job:
        """Return the job: one `GET /api/v1/job/{job_id}`, given at most `left` seconds. Raises Failure."""
        seconds = min(LOOK_SECONDS, max(left, LEAST_SECONDS))
        return self._get(f"/api/v1/job/{job_id}", seconds, lambda body: parse_job(body, job_id))

    def look_patiently(self, job_id: str) -> Job:
        """Return the job; a look that fails in passing is tried again. Raises Failure."""
        return self._patiently(lambda: self.look(job_id))

    def submit(self, prompt: str, patience: float, sending: Callable[[bool], None]) -> Job:
        """Submit `prompt` and return the new job: `POST /api/v1/diffusion`.

        Sent again only where POLICY allows it, and for `patience` seconds at most. `sending(True)` is called
        before each send and `sending(False)` once it is certain that this send created nothing, so that
        whoever stops the run can say which it was. Raises Failure.
        """
        start = time.monotonic()
        tries = 0
        while True:
            tries += 1
            sending(True)
            reply = self._send("POST", SUBMIT_PATH, SUBMIT_SECONDS, {"text": prompt})
            if reply.outcome is Outcome.ANSWERED:
                try:
                    return parse_submit(reply.body)
                except ValueError as error:
                    words = f"HTTP {reply.status}, but {error}: {reply.words}"
                    reply = reply._replace(outcome=Outcome.UNREADABLE, words=words)
            policy = POLICY[reply.outcome]
            if policy.may_exist:
                words = f"the submit was sent, but: {reply.words}"
                raise Failure("submission_unknown", words, code=reply.status)
            sending(False)
            failure = _failure(reply)
            left = start + patience - time.monotonic()
            out_of_tries = reply.outcome is Outcome.UNREACHED and tries >= TRIES
            if not policy.submit_again or out_of_tries or left <= 0:
                raise failure
            time.sleep(min(back_off(tries, reply.retry_after, jitter=random.random()), left))

    def _get(self, path: str, seconds: float, parse: Callable[[object], Found]) -> Found:
        reply = self._send("GET", path, seconds)
        if reply.outcome is not Outcome.ANSWERED:
            raise _failure(reply)
        try:
            return parse(reply.body)
        except ValueError as error:
            raise Failure(
                "bad_response",
                f"the answer is not of the documented shape: {error}",
                code=reply.status,
                transient=POLICY[Outcome.UNREADABLE].look_again,
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

    def _send(self, method: str, path: str, seconds: float, body: object = None) -> Reply:
        """Send once, and say how it ended; never raises for what the wire does."""
        url = self._where.base_url + path
        outgoing = None if body is None else Outgoing(json.dumps(body, allow_nan=False).encode())
        headers = {
            "x-api-key": self._where.key,
            "Accept": "application/json",
            "Content-Type": "application/json" if outgoing else None,
        }
        begun = time.monotonic()
        content = b""
        try:
            with self._session.open(
                method, url, seconds=seconds, gap=seconds, headers=headers, data=outgoing
            ) as response:
                for piece in pieces(response):
                    content += piece
                    if len(content) > MOST_BYTES:
                        break
        except Exception as error:  # noqa: BLE001 - requests lets OSError, ValueError and urllib3's own pass
            outcome = outcome_of_error(error, sent=outgoing.begun if outgoing else None)
            words = self._clean(f"{outcome.value} ({innermost(error)})")[:400]
            self._tell(method, url, begun, words)
            hint = setup_hint(error) if outcome is Outcome.UNSENDABLE else None
            return Reply(outcome, words, hint=hint and self._clean(hint))
        status = response.status_code
        parsed = self._parse(content)
        shown = content.decode("utf-8", "replace") if parsed is None else json.dumps(parsed)
        self._tell(method, url, begun, f"{status} {shown}")
        outcome, hint = outcome_of_status(status), None
        if outcome in (Outcome.REDIRECTED, Outcome.SEE_OTHER):
            where = self._clean(response.headers.get("Location", ""))[:200]
            words = f"HTTP {status}: redirected to {where!r}, which is not followed"
            hint = f"Look at LEGNEXT_BASE_URL: {self._clean(self._where.base_url)} redirects."
        else:
            words = error_words(parsed)[1][:1000] or f"HTTP {status}"
            words += "" if parsed is not None else " with a body that is not JSON"
        return Reply(
            outcome,
            words,
            status,
            parsed,
            parse_retry_after(response.headers.get("Retry-After"), time.time()),
            hint,
            _is_html(content, response.headers.get("Content-Type", "")),
        )

    def _parse(self, content: bytes) -> object:
        try:
            return self._clean(json.loads(content)) if len(content) <= MOST_BYTES else None
        except (ValueError, RecursionError):
            return None

    def _clean(self, value: Any) -> Any:
        """Return `value` without the key, lone surrogates, NaN and infinity: none may reach any output."""
        if isinstance(value, str):
            return self._hide(value.encode("utf-8", "replace").decode("utf-8"))
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


def _is_html(content: bytes, kind: str) -> bool:
    return content.lstrip()[:1] == b"<" or ("html" in kind.lower() and bool(content.strip()))


def _failure(reply: Reply) -> Failure:
    """Return the Failure for a reply after which certainly no job was created, or for a look."""
    again = POLICY[reply.outcome].look_again
    if reply.status is None:
        type_ = "setup_error" if reply.outcome is Outcome.UNSENDABLE else "network_error"
    # The API speaks JSON: what is HTML was said by a gateway, which knows nothing of the prompt.
    elif reply.html and reply.outcome is Outcome.REFUSED and reply.status != 401:
        return Failure("bad_response", f"a gateway answered, not the API: {reply.words}", code=reply.status)
    else:
        type_ = type_of_status(reply.status, reply.words)
    return Failure(
        type_,
        reply.words,
        code=reply.status,
        hint=reply.hint,
        retry_after=reply.retry_after,
        transient=again,
    )


def _hider(key: str) -> Callable[[str], str]:
    """Return a function that puts [key] for the key, plain or as a server may have rewritten it.

    In any case, percent-encoded, HTML- or JSON-escaped, or as base64 at any of the three offsets that a
    word before it can give it.
    """
    if len(key) < SHORTEST_REDACTED_KEY:
        return lambda text: text
    import base64
    from urllib.parse import unquote

    lower = key.lower()
    encoded: set[str] = set()
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + key.encode()).decode()
        certain = whole[-(-offset * 8 // 6) : (offset + len(key)) * 8 // 6]
        encoded |= {certain, certain.replace("+", "-").replace("/", "_")}
    plain = re.compile(re.escape(key), re.IGNORECASE)

    def hide(text: str) -> str:
        for code in encoded:
            text = text.replace(code, "[key]")
        seen = text
        if "\\u" in seen:
            seen = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), seen)
        if "%" in seen:
            seen = unquote(seen)
        if "&" in seen:
            from html import unescape  # a table of 2,000 names, seldom needed

            seen = unescape(seen)
        return plain.sub("[key]", seen) if lower in seen.lower() else text

    return hide
