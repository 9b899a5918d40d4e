"""One HTTP exchange, whoever it is with: its session, the body it sends, and how it ended."""

from __future__ import annotations

import math
from enum import Enum
from io import BytesIO
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, TypeVar, cast

from legnext import __version__
from legnext.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

Result = TypeVar("Result")


# A server in trouble is asked less often, but a job is still told within half a minute of its end.
LONGEST_PAUSE = 30.0


class Outcome(Enum):
    """How a request ended, as far as its being sent again goes."""

    ANSWERED = "2xx with a body of the documented shape"
    UNREACHED = "no connection could be made"
    UNSENDABLE = "TLS or a local setting does not allow the connection"
    UNANSWERED = "time ran out or the connection broke before a whole answer"
    RATE_LIMITED = "429"
    TROUBLE = "408, 5xx, or 1xx"
    UNREADABLE = "2xx with a body of another shape"
    REDIRECTED = "3xx"
    REFUSED = "any other 4xx"


class Outgoing(BytesIO):
    """The body of a request, which knows whether it has begun to leave, and can be kept from leaving.

    `requests` reads it once the connection stands. How an exchange failed does not tell as much: a
    time-out while connecting and one while waiting for the answer can look alike.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._lock = Lock()
        self._begun = self._kept = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Hand out the next piece to be sent."""
        with self._lock:
            if self._kept:
                raise OSError("the request was given up on before it was sent")
            self._begun = True
        return super().read(size)

    def keep(self) -> bool:
        """Let nothing leave from now on; say whether nothing has left."""
        with self._lock:
            self._kept = True
            return not self._begun


def outcome_of_error(error: BaseException, *, left: bool | None = None) -> Outcome:
    """Classify an exception of `requests` by whether the request can have left.

    Its classes do not say: SSLError and ProxyError are ConnectionErrors, and so is "Connection aborted"
    after a POST was sent; an answer's odd header is a ValueError like a URL's. What `urllib3` raised
    inside says more, and `left`, where it is known, the rest.
    """
    if left:
        return Outcome.UNANSWERED
    in_between = Outcome.UNANSWERED if left is None else Outcome.UNREACHED
    if isinstance(error, TimedOut):
        return in_between
    import ssl  # loaded by requests long before

    import requests
    import urllib3.exceptions as inner

    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, (inner.NewConnectionError, inner.ConnectTimeoutError, requests.ConnectTimeout)):
            return Outcome.UNREACHED
        # A proxy that is there but will not connect us: the request itself has not been sent.
        if type(cause) is OSError and str(cause).startswith("Tunnel connection failed"):
            return Outcome.UNREACHED
        if isinstance(cause, inner.InvalidHeader):  # of the answer
            return Outcome.UNANSWERED
    for cause in causes:
        # TLS can also break while the answer is read; only the handshake comes before sending.
        if isinstance(cause, ssl.SSLError) and _raised_in(cause, "do_handshake"):
            return Outcome.UNSENDABLE
        # A name that the certificate does not have: urllib3 1.x sees that itself, before it sends.
        if type(cause).__name__ == "CertificateError":
            return Outcome.UNSENDABLE
    # URL, header, proxy setting, CA bundle: found wrong by requests before it opened a connection.
    if isinstance(error, ValueError) or not isinstance(error, requests.RequestException):
        return Outcome.UNSENDABLE
    return in_between


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            todo += [*cause.args, getattr(cause, "reason", None)]
    return found


def _raised_in(error: BaseException, function: str) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name == function:
            return True
        frame = frame.tb_next
    return False


def innermost(error: BaseException) -> str:
    """Return the cause worth reading: requests wraps it three deep, with addresses of objects in the text."""
    last = _causes(error)[-1]
    words = getattr(last, "strerror", None) or str(last)
    return f"{type(last).__name__}: {words}"


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds to wait from `now` (seconds since the epoch); Retry-After in both its forms."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from datetime import timezone  # rare
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(value)
            # The oldest of the three date forms names no zone; all of them are in UTC.
            seconds = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def new_session() -> requests.Session:
    """Return a session that keeps connections open and takes nothing from ~/.netrc.

    Proxies and CA bundles from the environment keep working. Raises Failure `missing_dependency`.
    """
    try:
        import requests  # --help and --dry-run work without it
        from requests.adapters import HTTPAdapter
    except ImportError:
        raise Failure("missing_dependency", "the Python package requests is not installed") from None
    session = requests.Session()
    session.headers["User-Agent"] = f"legnext-midjourney/{__version__}"
    # A session that has an auth of its own does not look into ~/.netrc; this one adds nothing.
    session.auth = lambda request: request
    adapter = HTTPAdapter(pool_maxsize=64)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def back_off(
    failures: int, retry_after: float | None = None, *, first: float = 1.0, jitter: float = 0.0
) -> float:
    """Return the seconds to pause after that many failures in a row: doubling, or what the server asked for.

    `jitter` from 0 to 1 shortens the doubled pause to as little as half, so that clients which failed
    together do not come back together. Never longer than LONGEST_PAUSE, and never without a break,
    whatever the server asked for: a Retry-After of 0 must not make a storm.
    """
    doublings = min(failures - 1, 16) if retry_after is None else 0
    pause = float(min(first * 2**doublings, LONGEST_PAUSE)) * (1 - jitter / 2)
    return pause if retry_after is None else max(pause, min(retry_after, LONGEST_PAUSE))


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
