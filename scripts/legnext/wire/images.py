"""The only module that speaks to image hosts: it fetches a picture whole or not at all, and has no key."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from legnext.disk.output_dir import EXTENSIONS, begin, partial_beside
from legnext.errors import Failure
from legnext.wire.api import RULES
from legnext.wire.settings import refusal
from legnext.wire.transport import TimedOut, innermost, new_session, outcome_of_error, within

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

MOST_BYTES = 100_000_000
MOST_REDIRECTS = 5
TRIES = 3
CONNECT_SECONDS = 10.0
GAP_SECONDS = 15.0  # between two pieces
IMAGE_SECONDS = 120.0  # for a whole image: tens of MB over a slow line
PIECE = 65536  # smaller pieces cost time, one whole body costs memory

_PNG_END = b"IEND\xaeB`\x82"


def extension(head: bytes) -> str | None:
    """Return the extension for an image that begins with `head` (12 bytes), or None: not an image."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "avif" if head[4:12] == b"ftypavif" else None


def existing(stem: str) -> str | None:
    """Return the image that is already there under `stem` (a path without extension), if it is whole."""
    return next(filter(is_whole, (f"{stem}.{ending}" for ending in EXTENSIONS)), None)


def is_whole(path: str) -> bool:
    """Say whether `path` begins like an image and, where the format tells (PNG), ends like one."""
    try:
        with open(path, "rb", buffering=0) as file:
            kind = extension(file.read(12))
            if kind != "png":
                return kind is not None
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


class ImageHost:
    """Fetches images, over connections that are kept open."""

    def __init__(self, trace: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing is sent. `trace` is told of each exchange."""
        self._session = new_session()
        self._trace = trace

    def fetch(self, url: str, stem: Path) -> Path:
        """Fetch `url` to `stem` plus the extension that its bytes call for, and return that path.

        Raises Failure `download_failed`, or OSError where the disk will not take it.
        """
        for tries in range(1, TRIES + 1):
            try:
                return self._fetch_once(url, stem)
            except TimedOut as error:
                raise Failure("download_failed", f"{url}: {error}") from None
            except Failure as failure:
                if not failure.transient or tries == TRIES:
                    raise
            time.sleep(0.5 * tries * (1 - random.random() / 2))
        raise AssertionError("unreachable")

    def _fetch_once(self, url: str, stem: Path) -> Path:
        deadline = time.monotonic() + IMAGE_SECONDS
        with partial_beside(stem) as partial:
            kind = within(IMAGE_SECONDS, lambda: self._receive(url, partial, deadline))
            return partial.replace(stem.with_name(f"{stem.name}.{kind}"))

    def _receive(self, url: str, partial: Path, deadline: float) -> str:
        import requests

        try:
            self._follow(url, partial, deadline)
        except (requests.RequestException, ValueError) as error:
            again = RULES[outcome_of_error(error)].look_again
            raise Failure("download_failed", f"{url}: {innermost(error)}", transient=again) from None
        kind = _kind(partial)
        if kind is None:
            raise Failure("download_failed", f"{url}: the answer is not an image", transient=True)
        return kind

    def _follow(self, url: str, partial: Path, deadline: float) -> None:
        hop = url
        for _ in range(MOST_REDIRECTS + 1):
            why = refusal(hop)
            if why:
                raise Failure("download_failed", f"{hop[:300]!r} is not fetched: {why}")
            begun = time.monotonic()
            # Redirects are followed by hand, so that each hop is judged.
            with self._session.get(
                hop, timeout=(CONNECT_SECONDS, GAP_SECONDS), allow_redirects=False, stream=True
            ) as response:
                if not response.is_redirect:
                    size = self._save(response, hop, partial, deadline)
                    if self._trace:
                        took = (time.monotonic() - begun) * 1000
                        self._trace(f"GET {hop} {took:.0f} ms: {response.status_code} {size} bytes")
                    return
                hop = urljoin(hop, response.headers["Location"])
        raise Failure("download_failed", f"{url}: more than {MOST_REDIRECTS} redirects")

    def _save(self, response: requests.Response, url: str, partial: Path, deadline: float) -> int:
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
        tail = b""
        with begin(partial) as file:
            for piece in response.iter_content(PIECE):
                size += len(piece)
                if size > MOST_BYTES:
                    raise too_large
                if time.monotonic() > deadline:
                    raise Failure("download_failed", f"{url}: not done within {IMAGE_SECONDS:g} s")
                file.write(piece)
                tail = (tail + piece)[-len(_PNG_END) :]
        # Without a length only the format's own end says whether the connection ended too early.
        cut = size != length if length is not None else _kind(partial) == "png" and tail != _PNG_END
        if cut:
            raise Failure("download_failed", f"{url}: cut off after {size} bytes", transient=True)
        return size


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        return extension(file.read(12))
