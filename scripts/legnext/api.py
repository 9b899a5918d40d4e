"""The client of the Legnext API: balance, submit, job; what may be sent again.

A submit costs money and has no idempotency key: once it may have arrived, it is never sent again.

What real networks and clients taught:
- requests does not say whether a request was sent: "Connection aborted" after a submit is a
  ConnectionError, like a refused connection. `RequestBody.started` says it.
- A gateway may close an idle connection just as a submit leaves: each submit gets a new one.
- A link that was down for 20 s lost six of six answers with a timeout of 30 s, none with 90 s.
- Answers cut short, mislabelled or no JSON had the id of a paid job: all that arrives is read.
"""

import contextlib
import io
import json
import random
import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

from legnext import transport
from legnext.errors import Failure
from legnext.job import JOB_ID, Job, error_words, is_job_id, load_json, mapping, parse_job, usd
from legnext.settings import api_key, redact

SUBMIT_PATH = "/api/v1/diffusion"
BALANCE_KEYS = ("account_id", "balance_usd", "available_credits", "available_points")
SUBMIT_SECONDS = 90.0  # in all: others wait for the lock
BALANCE_SECONDS = 5.0  # for the check before a submit
GET_SECONDS, MIN_GET_SECONDS = 15.0, 5.0  # the latter even if less is left
RETRY_SECONDS = 20.0  # of one request
MAX_TRIES, MAX_PAUSE = 4, 30.0
CHUNK, MAX_ANSWER_BYTES = 65_536, 4_000_000  # a real answer has a few KB
JOB_ID_FIELD = re.compile(rf'"job_id"\s*:\s*"({JOB_ID.pattern})"')
MODERATION = re.compile("(?i)banned|prohibit|nsfw|content (policy|moderation)|sensitive content")
REDIRECTS = (301, 302, 303, 307, 308)
ERROR_TYPES = {  # by status, or its first digit
    **dict.fromkeys(REDIRECTS, "setup_error"),
    **dict.fromkeys((400, 413, 422), "invalid_request"),
    401: "invalid_api_key",
    402: "insufficient_balance",
    403: "forbidden",
    404: "not_found",
    4: "api_error",
    429: "rate_limited",
    **dict.fromkeys((408, 5), "server_error"),
}
Result = TypeVar("Result")


def may_have_created_job(status: int) -> bool:
    """Say whether a submit that was sent and got this status, but no job id, may have made a job.

    0: no answer. 1xx: an interim one. 2xx: accepted. 303: carried out (RFC 9110). 408, 5xx:
    gateways send them even if the API accepted the request.
    """
    return status < 300 or status in (303, 408) or status >= 500


def is_transient(status: int) -> bool:
    """Say whether the same GET may succeed soon."""
    return status in (408, 429) or status >= 500 or status < 200


def backoff_delay(
    failures: int, retry_after: float | None = None, *, base: float = 1.0, jitter: float = 0.0
) -> float:
    """Return the seconds to wait after so many failures in a row. `jitter`: 0 to 1."""
    delay = min(base * 2.0 ** min(failures - 1, 16), MAX_PAUSE) * (1 - jitter / 2)
    return max(delay, min(retry_after or 0.0, MAX_PAUSE))


def with_retry(call: Callable[[], Result], seconds: float, stop: threading.Event) -> Result:
    """Call again, for up to `seconds`, while it raises a transient Failure."""
    deadline, tries = time.monotonic() + seconds, 0
    while True:
        tries += 1
        try:
            return call()
        except Failure as failure:
            left = deadline - time.monotonic()
            delay = backoff_delay(tries, failure.retry_after, jitter=random.random())
            is_last = left <= 0 or (tries >= MAX_TRIES and failure.code != 429)
            if not failure.transient or is_last or (failure.retry_after and delay > left):
                raise
        if stop.wait(min(delay, left)):
            raise Failure("interrupted", "stopped before a retry")


class RequestBody(io.BytesIO):
    """A request body. It is read once the connection is up: if it never was, nothing arrived.

    Cancel it, then read `started`: if that is false, it will not be sent.
    """

    started = is_cancelled = False

    def read(self, size: int | None = -1, /) -> bytes:
        self.started = True
        if self.is_cancelled:
            raise TimeoutError("no connection in time")
        return super().read(size)


class Exchange:
    """What has come back of a request so far."""

    status = 0  # 0: no answer
    headers: Mapping[str, str] = {}
    error: Exception | None = None

    def __init__(self) -> None:
        self.content = bytearray()

    def perform(self, session: Any, method: str, url: str, options: dict[str, Any]) -> None:
        """Send the request and receive the answer. Never raises."""
        try:
            with session.request(method, url, **options) as response:
                self.headers, self.status = response.headers, response.status_code
                raw = response.raw  # read1 is in urllib3 since 2.2
                read = partial(raw.read1, CHUNK) if hasattr(raw, "read1") else partial(raw.read, 1)
                while chunk := read(decode_content=False):
                    self.content += chunk
                    if len(self.content) > MAX_ANSWER_BYTES:
                        raise ValueError("the answer is too large")
                    if b"}" in chunk and has_job_id(self.content):
                        return  # whatever length was declared
        except Exception as error:  # noqa: BLE001 - OSError, ValueError and urllib3's own too
            self.error = error


def has_job_id(content: bytearray) -> bool:
    """Say whether an answer is JSON with a job id: nothing else of it matters."""
    with contextlib.suppress(ValueError, RecursionError):
        return len(content) < 65_536 and is_job_id(mapping(json.loads(content)).get("job_id"))
    return False


class Answer(NamedTuple):
    """The result of an exchange, without the key."""

    status: int
    text: str
    body: object  # the text as JSON, or None
    failure: Failure | None


def read_answer(exchange: Exchange) -> Answer:
    """Judge what has arrived. A body that is whole JSON counts, however it ended."""
    status, failure = exchange.status, None
    text, body = parse_body(bytes(exchange.content))
    if status < 300 and isinstance(body, dict) and not is_job_id(body.get("job_id")):
        code = body.get("code")  # an envelope has its own
        status = code if isinstance(code, int) and 400 <= code < 600 else status
    if status and not 200 <= status < 300:
        failure = status_failure(status, exchange.headers, text, body)
    elif body is None and exchange.error:
        failure = transport.connection_failure(exchange.error, answered=status > 0)
    elif body is None:
        failure = Failure("bad_response", "the answer is not JSON", code=status, transient=True)
    return Answer(status, text, body, failure)


def parse_body(content: bytes) -> tuple[str, object]:
    """Return a body as text and as JSON or None, without the key."""
    with contextlib.suppress(zlib.error):  # packed although we asked for "identity"
        content = zlib.decompressobj(47).decompress(content, MAX_ANSWER_BYTES)
    text = content.decode("utf-8-sig", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        # Twice through JSON: no escape hides the key, no lone surrogate is left.
        text = json.dumps(load_json(text), ensure_ascii=False)
        text = redact(text.encode("utf-8", "replace").decode())
        return text, load_json(text)
    return redact(text), None


def status_failure(status: int, headers: Mapping[str, str], text: str, body: object) -> Failure:
    type_ = ERROR_TYPES.get(status) or ERROR_TYPES.get(status // 100, "bad_response")
    message = error_words(body)[1][:1000] or f"HTTP {status}"
    transient = is_transient(status)
    is_gateway = bool(text.strip()) and not isinstance(body, dict)  # the API's errors are objects
    if status in REDIRECTS:
        message = f"HTTP {status}: redirected to {redact(headers.get('Location', ''))[:200]!r}"
    elif is_gateway and not transient and status != 401:
        type_, message = "bad_response", f"a gateway answered, not the API: {message}"
    elif status in (400, 403) and MODERATION.search(message):
        type_ = "content_rejected"
    failure = Failure(type_, message, code=status, transient=transient)
    failure.retry_after = retry_after(headers)
    return failure


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the server's seconds; few send a date, which counts as none."""
    seconds = headers.get("Retry-After", "")
    return min(float(seconds), 1e9) if seconds.isdecimal() else None


class Client:
    """The Legnext API. `log` gets a line per exchange, without the key. Threads may share it."""

    def __init__(self, url: str, stop: threading.Event, log: Callable[[str], None] | None) -> None:
        self._url, self._stop, self._log = url, stop, log

    def balance(self, seconds: float = GET_SECONDS) -> dict[str, Any]:
        """Return the account's numbers, after one try. Raises Failure."""
        return self._get("/api/account/balance", seconds, parse_balance)

    def balance_usd(self) -> float | None:
        """Return it in USD, None if the answer has none. Raises Failure."""
        return usd(self.balance(BALANCE_SECONDS).get("balance_usd"))

    def get_job(self, job_id: str, left: float = GET_SECONDS) -> Job:
        """Return the job, after one try of about `left` seconds. Raises Failure."""
        seconds = min(GET_SECONDS, max(left, MIN_GET_SECONDS))
        return self._get(f"/api/v1/job/{job_id}", seconds, lambda body: parse_job(body, job_id))

    def submit(self, prompt: str) -> Job:
        """Send one POST and return the new job.

        Raises Failure `submission_unknown` if a job may exist. Any other Failure means that none
        does; a transient one (no connection, 429) may pass.
        """
        body = RequestBody(json.dumps({"text": prompt}).encode())
        answer = self._send(SUBMIT_PATH, SUBMIT_SECONDS, body)
        if job := submitted_job(answer):
            return job
        failure = answer.failure or Failure("bad_response", repr(answer.text[:200]))
        if body.started and may_have_created_job(answer.status):
            words = f"it was sent, but no job id came back: {failure.message}"
            raise Failure("submission_unknown", words, code=answer.status or None)
        raise failure

    @cached_property
    def _session(self) -> Any:
        return transport.new_session()

    def _get(self, path: str, seconds: float, parse: Callable[[object], Result]) -> Result:
        answer = self._send(path, seconds)
        if answer.failure:
            raise answer.failure
        try:
            return parse(answer.body)
        except ValueError as error:
            words = f"the answer is not as documented: {error}"
            raise Failure("bad_response", words, code=answer.status, transient=True) from None

    def _send(self, path: str, seconds: float, body: RequestBody | None = None) -> Answer:
        began, exchange = time.monotonic(), Exchange()
        method, url = "POST" if body else "GET", self._url + path
        headers = {"x-api-key": api_key(), "Content-Type": "application/json"}
        options = {"data": body, "headers": headers, **transport.request_options(seconds)}
        args = (transport.new_session() if body else self._session, method, url, options)
        # A thread: no timeout of requests ends a name look-up or a trickle of headers.
        # A late one is left alone: no body leaves any more, and its answer is not read.
        sender = threading.Thread(target=exchange.perform, args=args, daemon=True)
        try:
            sender.start()
        except RuntimeError as error:  # too many threads: nothing is sent
            raise Failure("network_error", str(error), transient=True) from None
        while sender.is_alive() and time.monotonic() < began + seconds:
            sender.join(0.1)
            if self._stop.is_set() and not (body and body.started):
                break
        else:
            sender.join(0.5)  # after SIGSTOP and SIGCONT it may be there
        if body:
            body.is_cancelled = True
        if sender.is_alive():
            exchange.error = TimeoutError(f"no whole answer within {seconds:g} s")
        answer = read_answer(exchange)
        if self._log:
            took = 1000 * (time.monotonic() - began)
            result = answer.text or (answer.failure and answer.failure.message)
            line = f"{method} {url} {took:.0f} ms: {answer.status or ''} {result}"
            self._log(" ".join(line.split())[:4000])
        return answer


def submitted_job(answer: Answer) -> Job | None:
    """Return the new job if the answer names exactly one, whatever else is wrong with it."""
    message = answer.failure.message if answer.failure else ""
    job_ids = set(JOB_ID_FIELD.findall(answer.text + message))
    if len(job_ids) != 1:
        return None
    job_id = job_ids.pop()
    with contextlib.suppress(ValueError):
        return parse_job(answer.body, job_id)
    return Job(job_id, "pending")  # a status next to the id may be the envelope's


def parse_balance(body: object) -> dict[str, Any]:
    """Return the account's numbers. Raises ValueError if there are none."""
    code, data = mapping(body).get("code", 200), mapping(mapping(body).get("data"))
    account = {k: data[k] for k in BALANCE_KEYS if isinstance(data.get(k), (str, int, float))}
    if not account or code != 200:
        raise ValueError(f"no account in it, code {code!r}")
    return account
