"""The only module that speaks to image hosts: it fetches a picture whole or not at all, and has no key."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from legnext.disk.files import ends_of, open_partial, partial_beside, replace
from legnext.errors import Failure
from legnext.picture import extension, is_whole
from legnext.wire.settings import refusal
from legnext.wire.transport import POLICY, Session, innermost, outcome_of_error, pieces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import requests

MOST_BYTES = 100_000_000
MOST_REDIRECTS = 5
TRIES = 3
GAP_SECONDS = 15.0  # between two pieces
IMAGE_SECONDS = 120.0  # for a whole image: tens of MB over a slow line


class ImageHost:
    """Fetches images, over connections that are kept open."""

    def __init__(self, trace: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing is sent. `trace` is told of each exchange."""
        self._session = Session()
        self._trace = trace

    def fetch(self, url: str, stem: Path) -> Path:
        """Fetch `url` to `stem` plus the extension that its bytes call for, and return that path.

        Raises Failure `download_failed`, or OSError where the disk will not take it.
        """
        until = time.monotonic() + IMAGE_SECONDS
        for tries in range(1, TRIES + 1):
            try:
                with partial_beside(stem) as partial:
                    self._receive(url, partial, until)
                    kind = extension(ends_of(partial)[0])
                    return replace(partial, stem.with_name(f"{stem.name}.{kind}"))
            except Failure as failure:
                # What took all of its time is not begun again.
                if not failure.transient or tries == TRIES or time.monotonic() >= until:
                    raise
            time.sleep(0.5 * tries * (1 - random.random() / 2))
        raise AssertionError("unreachable")

    def _receive(self, url: str, partial: Path, until: float) -> None:
        """Fetch `url` to `partial`, following redirects by hand, so that each hop is judged."""
        hop = url
        for _ in range(MOST_REDIRECTS + 1):
            why = refusal(hop)
            if why:
                raise Failure("download_failed", f"{hop[:300]!r} is not fetched: {why}")
            begun = time.monotonic()
            try:
                with self._session.open("GET", hop, seconds=until - begun, gap=GAP_SECONDS) as response:
                    if not response.is_redirect:
                        size = _save(response, hop, partial)
                        if self._trace:
                            took = (time.monotonic() - begun) * 1000
                            self._trace(f"GET {hop} {took:.0f} ms: {response.status_code} {size} bytes")
                        return
                    hop = urljoin(hop, response.headers["Location"])
            except (Failure, OSError) as error:
                if isinstance(error, Failure) or not _is_of_the_wire(error):
                    raise
                raise _broken(url, error) from None
            except Exception as error:  # noqa: BLE001 - requests lets ValueError and urllib3's own pass
                raise _broken(url, error) from None
        raise Failure("download_failed", f"{url}: more than {MOST_REDIRECTS} redirects")


def _is_of_the_wire(error: OSError) -> bool:
    import requests

    return isinstance(error, requests.RequestException)  # which is an OSError; the disk's are plain ones


def _broken(url: str, error: Exception) -> Failure:
    again = POLICY[outcome_of_error(error)].look_again
    return Failure("download_failed", f"{url}: {innermost(error)}", transient=again)


def _save(response: requests.Response, url: str, partial: Path) -> int:
    """Write the body to `partial` and return its size in bytes. Raises Failure where it is no whole image."""
    status = response.status_code
    if status != 200:
        raise Failure(
            "download_failed",
            f"{url}: HTTP {status}",
            code=status,
            # 404 too: an image can appear a moment after its job is done. 403 is an expired signature.
            transient=status in (404, 408, 429) or status >= 500,
        )
    declared = response.headers.get("Content-Length", "")
    length = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 16 else None
    if "Content-Encoding" in response.headers:
        length = None
    too_large = Failure("download_failed", f"{url}: larger than {MOST_BYTES // 1_000_000} MB")
    if (length or 0) > MOST_BYTES:
        raise too_large
    size = 0
    with open_partial(partial) as file:
        for piece in pieces(response):
            size += len(piece)
            if size > MOST_BYTES:
                raise too_large
            file.write(piece)
    head, tail, _size = ends_of(partial)
    if size and extension(head) is None:
        raise Failure("download_failed", f"{url}: the answer is not an image", transient=True)
    if size != (size if length is None else length) or not is_whole(head, tail, size):
        raise Failure("download_failed", f"{url}: cut off after {size} bytes", transient=True)
    return size
