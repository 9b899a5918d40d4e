"""One HTTP exchange, whoever it is with: its session, its time, its end, and what may then be sent again.

There is no idempotency key and no list of one's jobs: a POST that may have arrived is never repeated. Each
rule here stands for a fault that cost money or a job once: `requests` takes "Connection aborted" after a sent
POST for a failed connection, hands an interim answer's sequel to the next request, and times the gap between
two bytes where a whole exchange has to end.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from enum import Enum
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from legnext import __version__
from legnext.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

CONNECT_SECONDS = 10.0
PIECE = 65536  # bytes: smaller pieces cost time, one whole body costs memory

# Gateways close connections that rest. Where that crosses with a submit nobody can tell whether it arrived:
# it takes one that was used this short a time ago, or a new one.
REST_SECONDS = 0.25

# A server in trouble is asked less often, but a job is still told within half a minute of its end.
LONGEST_PAUSE = 30.0

# Environment variables that a failed set-up is due to.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class Outcome(Enum):
    """How a request ended, as far as its being sent again goes."""

    ANSWERED = "2xx with a body of the documented shape"
    UNREACHED = "no connection could be made"
    UNSENDABLE = "this machine's set-up does not allow the connection"
    UNANSWERED = "time ran out or the connection broke before a whole answer"
    RATE_LIMITED = "429"
    TROUBLE = "408, 5xx, or 1xx"
    UNREADABLE = "2xx with a body of another shape"
    REDIRECTED = "301, 302, 307, 308"
    SEE_OTHER = "303"
    REFUSED = "any other 3xx or 4xx"


class Policy(NamedTuple):
    """Whether a look-up (GET) and a submit (POST) may be sent again, and whether a job may exist now."""

    look_again: bool
    submit_again: bool
    may_exist: bool
    reason: str


POLICY: dict[Outcome, Policy] = {
    Outcome.UNREACHED: Policy(True, True, False, "nothing has left this machine"),
    Outcome.UNSENDABLE: Policy(False, False, False, "nothing has left, and a second try would fail alike"),
    Outcome.UNANSWERED: Policy(True, False, True, "it may have arrived and been taken"),
    Outcome.RATE_LIMITED: Policy(True, True, False, "the server says that it did not take it"),
    Outcome.TROUBLE: Policy(True, False, True, "a gateway says this also of what the API took"),
    Outcome.UNREADABLE: Policy(True, False, True, "it was taken, but the job's id is lost"),
    Outcome.REDIRECTED: Policy(
        False, False, False, "not taken; to follow would hand the key to another host"
    ),
    Outcome.SEE_OTHER: Policy(
        False, False, True, "by HTTP's meaning the POST was carried out (RFC 9110, 15.4.4)"
    ),
    Outcome.REFUSED: Policy(False, False, False, "the server says no, and why"),
}
"""The one place that decides what is sent again."""


def outcome_of_status(status: int) -> Outcome:
    """Classify an HTTP status; ANSWERED still has to prove itself by its body."""
    if 200 <= status < 300:
        return Outcome.ANSWERED
    if status == 429:
        return Outcome.RATE_LIMITED
    # 1xx as the last word: an answer is still to come, so what was sent may be at work.
    if status == 408 or status >= 500 or status < 200:
        return Outcome.TROUBLE
    if status == 303:
        return Outcome.SEE_OTHER
    return Outcome.REDIRECTED if status in (301, 302, 307, 308) else Outcome.REFUSED


# When the exchange of each thread has to be over, by the monotonic clock, and how long its connection may
# have rested before it.
_exchange = threading.local()


class Outgoing(BytesIO):
    """The body of a request, which knows whether it has begun to leave, and does not leave too late.

    `requests` reads it once the connection stands. How an exchange failed does not tell as much: a
    time-out while connecting and one while waiting for the answer can look alike. And a name look-up that
    took longer than the exchange may must not send what nobody waits for any more.
    """

    begun = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Hand out the next piece to be sent."""
        if not self.begun and time.monotonic() > _exchange.until:
            raise OSError("time ran out before the connection stood")
        self.begun = True
        return super().read(size)


class Broken(Exception):  # noqa: N818 - a state of affairs
    """The answer began and did not come whole."""


def outcome_of_error(error: BaseException, *, sent: bool | None = None) -> Outcome:
    """Classify an exception of `requests` by whether the request can have left; `sent` where that is known.

    Its classes do not say: SSLError and ProxyError are ConnectionErrors, and so is "Connection aborted"
    after a request was sent; an answer's odd header is a ValueError like a URL's. What `urllib3` raised
    inside says more.
    """
    if sent or isinstance(error, Broken):
        return Outcome.UNANSWERED
    import ssl  # loaded by requests long before

    import requests
    import urllib3.exceptions as inner

    causes = _causes(error)
    for cause in causes:
        if is_of_the_setup(cause):
            return Outcome.UNSENDABLE
    for cause in causes:
        if isinstance(cause, (inner.NewConnectionError, inner.ConnectTimeoutError, requests.ConnectTimeout)):
            return Outcome.UNREACHED
        # A proxy that is there but will not connect us: the request itself has not been sent.
        if type(cause) is OSError and str(cause).startswith("Tunnel connection failed"):
            return Outcome.UNREACHED
        if isinstance(cause, inner.InvalidHeader):  # of the answer
            return Outcome.UNANSWERED
        # TLS can also break while the answer is read; only the handshake comes before sending.
        if isinstance(cause, ssl.SSLError):
            return Outcome.UNREACHED if _raised_in(cause, "do_handshake") else Outcome.UNANSWERED
    # URL, header, proxy setting, CA bundle: found wrong by requests before it opened a connection.
    if isinstance(error, ValueError) or not isinstance(error, (requests.RequestException, inner.HTTPError)):
        return Outcome.UNSENDABLE
    return Outcome.UNANSWERED if sent is None else Outcome.UNREACHED


def is_of_the_setup(cause: BaseException) -> bool:
    """Say whether a cause is one that no repetition mends: a certificate, a proxy's no, a closed sandbox."""
    import ssl

    if isinstance(cause, (ssl.SSLCertVerificationError, PermissionError)):
        return True
    # A name that the certificate does not have: urllib3 1.x sees that itself, before it sends.
    if type(cause).__name__ == "CertificateError":
        return True
    # The CA bundle is loaded before there is a connection; a handshake has its own frame.
    if isinstance(cause, ssl.SSLError) and _raised_in(cause, "load_verify_locations", "ssl_wrap_socket"):
        return not _raised_in(cause, "do_handshake")
    return type(cause) is OSError and str(cause).startswith(
        ("Tunnel connection failed: 403", "Tunnel connection failed: 407")
    )


def setup_hint(error: BaseException) -> str:
    """Return which setting to look at after an error whose outcome is UNSENDABLE."""
    import ssl

    causes = _causes(error)
    if any(type(cause).__name__ == "NewConnectionError" for cause in causes):
        return "This sandbox forbids the network: ask the host (or the user) for network access."
    words = " ".join(f"{type(cause).__name__} {cause}" for cause in causes)
    if any(word in words for word in ("Proxy", "proxy", "Tunnel", "SOCKS", "Failed to parse")):
        return "Look at HTTPS_PROXY (its address and password) and NO_PROXY."
    if any(isinstance(cause, (ssl.SSLError, OSError)) for cause in causes) or "ertificate" in words:
        named = [f"{name}={os.environ[name]}" for name in _CA_VARIABLES if os.environ.get(name)]
        return (
            f"Look at the CA bundle ({', '.join(named) or 'none is set: REQUESTS_CA_BUNDLE'}), and at the "
            "host in LEGNEXT_BASE_URL, whose certificate may be expired or for another name."
        )
    return "Look at LEGNEXT_BASE_URL, HTTPS_PROXY and REQUESTS_CA_BUNDLE."


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            todo += [cause.__context__, *cause.args, getattr(cause, "reason", None)]
    return found


def _raised_in(error: BaseException, *functions: str) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name in functions:
            return True
        frame = frame.tb_next
    return False


def innermost(error: BaseException) -> str:
    """Return the cause worth reading: requests wraps it three deep, with addresses of objects in the text."""
    causes = _causes(error)
    words = getattr(causes[-1], "strerror", None) or str(causes[-1])
    where = " at the proxy of HTTPS_PROXY" if any(type(c).__name__ == "ProxyError" for c in causes) else ""
    return f"{type(causes[-1]).__name__}: {words}{where}"


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds to wait from `now` (seconds since the epoch); Retry-After in both its forms."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from datetime import timezone
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(value)
            # The oldest of the three date forms names no zone; all of them are in UTC.
            seconds = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


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


# --- The session ------------------------------------------------------------------------------------------

# For requests an empty proxy is one that is given and is none; it looks for no other.
_DIRECTLY = {"http": "", "all": ""}


class Session:
    """Connections that are kept open, to the API or to image hosts."""

    def __init__(self) -> None:
        """Prepare; nothing is sent. Raises Failure `missing_dependency`."""
        self._session = _new_session()

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        gap: float,
        headers: Mapping[str, str | None] | None = None,
        data: Outgoing | None = None,
    ) -> Iterator[requests.Response]:
        """Send a request and give its answer, headers read, body to come; no redirect is followed.

        All of it, body included, is over within `seconds`, and within `gap` seconds of silence: the time-out
        of requests bounds the gap alone, so that a server that drips could hold a run for hours. Only a
        name look-up is not bounded but by the system.
        """
        _exchange.until = time.monotonic() + seconds
        _exchange.rest = math.inf if method == "GET" else REST_SECONDS
        with self._session.request(
            method,
            url,
            data=data,
            headers={"Accept-Encoding": "identity", **(headers or {})},  # what is small stays small
            timeout=(min(CONNECT_SECONDS, seconds), min(gap, seconds)),
            allow_redirects=False,  # requests would carry the key to another host
            stream=True,  # so that the size is bounded
            proxies=_DIRECTLY if url.lower().startswith("http:") else None,  # loopback, and the key in clear
        ) as response:
            yield response


def pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it arrives, at most PIECE bytes at a time. Raises Broken where it is not whole.

    A gateway may pack what nobody asked it to; gzip is unpacked in steps, so that 2 KB never become 4 GB of
    memory at once, as they did with "gzip, gzip" and urllib3 2.0.
    """
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    raw = response.raw.stream(PIECE, decode_content=False)
    try:
        if coding == "gzip":
            yield from _unpacked(raw)
        elif coding in ("", "identity"):
            yield from raw
        else:
            raise ValueError(f"packed as {coding[:80]!r}, which was not asked for")
    except Exception as error:
        raise Broken(innermost(error)) from error


def _unpacked(packed: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    unpack = zlib.decompressobj(31)
    for piece in packed:
        left = piece
        while left and not unpack.eof:
            yield unpack.decompress(left, PIECE)
            left = unpack.unconsumed_tail
    if not unpack.eof:
        raise ValueError("the packed body is cut off")


def _new_session() -> requests.Session:
    try:
        import requests
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "requests"
        what = "is not installed" if missing else f"cannot be imported: {error}"
        raise Failure("missing_dependency", f"the Python package requests {what}") from None
    session = requests.Session()
    session.headers["User-Agent"] = f"legnext-midjourney/{__version__}"
    # A session that has an auth of its own does not look into ~/.netrc; this one adds nothing.
    session.auth = lambda request: request
    # requests reads the other two variables by itself, and before this one.
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    adapter = _adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _adapter() -> requests.adapters.HTTPAdapter:
    """Return an adapter whose connections read past interim answers and keep to the exchange's time.

    They are not used for a submit after a rest.
    """
    from http.client import HTTPConnection, HTTPResponse
    from io import BufferedReader, RawIOBase

    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    class InTime(RawIOBase):
        """The bytes of a socket, for as long as the exchange may take."""

        def __init__(self, sock: object) -> None:
            self._sock = sock
            self._gap = sock.gettimeout()  # type: ignore[attr-defined]
            self._bytes = sock.makefile("rb", buffering=0)  # type: ignore[attr-defined]

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int | None:
            left = _exchange.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the whole exchange took too long")
            self._sock.settimeout(left if self._gap is None else min(left, self._gap))  # type: ignore[attr-defined]
            count: int | None = self._bytes.readinto(buffer)
            return count

        def close(self) -> None:
            self._bytes.close()
            super().close()

    class Answer(HTTPResponse):
        """An answer whose interim answers (1xx) are read past.

        http.client takes a 103 for the answer, so that the real one waited in the connection for the next
        request: 11 of 16 looks got another job's pictures.
        """

        def __init__(self, sock: object, *args: object, **options: object) -> None:
            super().__init__(sock, *args, **options)  # type: ignore[arg-type]
            self.fp = BufferedReader(InTime(sock))

        def begin(self) -> None:
            super().begin()
            while 100 <= self.status < 200 and self.status != 101:
                self.headers = self.msg = None  # type: ignore[assignment]
                super().begin()
            if self.status == 101:
                self.will_close = True

    def with_answers(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        class Pool(pool):  # type: ignore[misc, valid-type]
            ConnectionCls = type("Connection", (pool.ConnectionCls,), {"response_class": Answer})

            def _get_conn(self, timeout: float | None = None) -> HTTPConnection:
                connection: HTTPConnection = super()._get_conn(timeout)
                if time.monotonic() - getattr(connection, "rests_since", -math.inf) > _exchange.rest:
                    connection.close()  # and opened anew by urllib3, as one that was dropped
                return connection

            def _put_conn(self, connection: HTTPConnection | None) -> None:
                if connection:
                    connection.rests_since = time.monotonic()  # type: ignore[attr-defined]
                super()._put_conn(connection)

        return Pool

    pools = {"http": with_answers(HTTPConnectionPool), "https": with_answers(HTTPSConnectionPool)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: object, **options: object) -> None:
            super().init_poolmanager(*args, **options)  # type: ignore[arg-type]
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: object, **options: object) -> object:
            manager = super().proxy_manager_for(*args, **options)  # type: ignore[arg-type]
            manager.pool_classes_by_scheme = pools
            return manager

    return Adapter(pool_maxsize=64)
