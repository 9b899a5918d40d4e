"""Sessions of `requests`, for the API and for pictures, and why a connection failed."""

import gc
import os
import re
from http.client import HTTPException
from typing import Any

from legnext import __version__
from legnext.errors import Failure

NO_TLS = "WRONG_VERSION|HANDSHAKE_FAILURE|UNSUPPORTED|PROTOCOL_VERSION|CERTIFICATE|UNKNOWN_CA"
requests: Any = None  # imported late: --help and --dry-run work without it


def new_session() -> Any:
    """Return a requests.Session. Raises Failure `missing_dependency`."""
    global requests  # noqa: PLW0603
    try:
        import requests  # noqa: PLC0415
    except ImportError as error:
        raise Failure("missing_dependency", f"requests cannot be imported: {error}") from None
    finally:
        if not gc.isenabled():  # once: later there is garbage
            gc.freeze()
            gc.enable()
    session = requests.Session()
    session.headers["User-Agent"] = f"legnext-midjourney/{__version__}"
    session.headers["Accept-Encoding"] = "identity"
    session.auth = lambda request: request  # without an auth of its own it reads ~/.netrc
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    # Otherwise it reads the body of a redirect, without a limit.
    session.get_redirect_target = lambda _: None
    return session


def request_options(read_seconds: float) -> dict[str, Any]:
    """Return a request's options, new each time: requests adds proxies to them."""
    return {
        "allow_redirects": False,  # requests would take the key along to another host
        "stream": True,
        # No proxy for this machine; http is for nothing else.
        "proxies": {"http": "", "https://localhost": "", "https://127.0.0.1": ""},
        # To connect to an address, of which some may be dead; between two pieces.
        "timeout": (min(10.0, read_seconds / 3), read_seconds),
    }


def connection_failure(error: Exception, *, answered: bool) -> Failure:
    """Return the Failure for an error of requests; `setup_error` if a retry cannot help.

    `answered`: a status had arrived, so this machine's setup is right.
    """
    cause: BaseException = error
    # requests and urllib3 wrap it three deep
    while isinstance(cause.__context__, Exception) and not isinstance(cause, HTTPException):
        cause = cause.__context__
    words = f"{type(cause).__name__}: {getattr(cause, 'strerror', None) or cause}"[:500]
    words = re.sub(r"(?s)//.*@", "//", words)  # a proxy's password, or a part of it
    words = re.sub("Failed to parse: .*", "a URL, perhaps a proxy's, cannot be parsed", words)
    if isinstance(error, requests.exceptions.ProxyError):
        words = f"proxy: {words}"
    # An invalid header is the answer's fault; TimeoutError is a deadline of our own.
    answered |= isinstance(error, (requests.exceptions.InvalidHeader, TimeoutError))
    if not answered and (
        isinstance(error, ValueError)  # the URL, or the proxy's, cannot be used
        or not isinstance(error, requests.RequestException)  # the CA bundle cannot be read
        or isinstance(cause, (ValueError, PermissionError))  # certificate; sandbox without network
        or (isinstance(error, requests.exceptions.SSLError) and re.search(NO_TLS, words))
        or re.search("Tunnel connection failed: (403|407)", words)
    ):
        return Failure("setup_error", words)
    return Failure("network_error", words, transient=True)
