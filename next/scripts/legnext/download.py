"""Pictures: downloaded whole or not at all, and found on disk. Their host never sees the key."""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from legnext.api import with_retry
from legnext.errors import Failure
from legnext.job import Job
from legnext.settings import why_url_refused
from legnext.transport import connection_failure, is_network_error, new_session, request_options


class Format(NamedTuple):
    """How a picture's file is known: its extension follows its bytes."""

    start: bytes  # a pattern
    end: bytes = b""  # a mark that a whole one has


FORMATS = {
    "png": Format(rb"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "jpg": Format(rb"\xff\xd8\xff", b"\xff\xd9"),
    "webp": Format(rb"RIFF....WEBP"),
    "gif": Format(rb"GIF8[79]a"),
    "avif": Format(rb"....ftypavif"),
}
OURS = re.compile(rf"(grid|\d\d?)\.({'|'.join(FORMATS)})")
HEAD_BYTES = 24  # enough for every `start`, and for the size of a PNG
TAIL_BYTES = 65536  # some hosts append bytes after a picture's own end
MAX_BYTES = 100_000_000
GAP_SECONDS = 15.0  # between two pieces
IMAGE_SECONDS = 120.0  # for a whole picture: tens of MB over a slow line
CHUNK = 16384


def format_of(head: bytes) -> str:
    """Return the extension for a picture that begins with these bytes, "" if it is none."""
    kinds = (kind for kind, form in FORMATS.items() if re.match(form.start, head, re.DOTALL))
    return next(kinds, "")


def pictures_in(folder: Path | None) -> dict[str, Path]:
    """Return the pictures in a job's folder by name: grid, 1, 2 and so on."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found = list(folder.iterdir()) if folder else []
    named = {path.stem: path for path in found if OURS.fullmatch(path.name)}
    return dict(sorted(named.items(), key=lambda item: item[0].zfill(2)))


def describe_files(folder: Path | None, job: Job) -> dict[str, Any]:
    """Return what is printed of a job's pictures on disk; nothing if there is none."""
    images = pictures_in(folder)
    if not images:
        return {}
    body: dict[str, Any] = {"dir": str(folder)}
    if missing := [f"{name}.png" for name in job.urls if name not in images]:
        body["missing"] = missing
    if "grid" in images:
        body["grid"] = str(images.pop("grid"))
    body["images"] = [str(path) for path in images.values()]
    with contextlib.suppress(OSError, StopIteration, struct.error):
        with next(iter(images.values())).open("rb") as file:
            head = file.read(HEAD_BYTES)
        if format_of(head) == "png":
            body["pixels"] = list(struct.unpack(">II", head[16:24]))
    return body


def failed(words: str, code: int | None = None, *, transient: bool = False) -> Failure:
    """Return the Failure for a picture; `code`: the HTTP status."""
    return Failure("download_failed", words, code=code, transient=transient)


class Downloader:
    """Downloads over one session, which keeps connections open. Threads may share it."""

    def __init__(
        self, stop: threading.Event, log: Callable[[str], None] | None, *, http_on_loopback: bool
    ) -> None:
        self._stop, self._log, self._http_on_loopback = stop, log, http_on_loopback
        self._partials: set[Path] = set()  # files that are being written

    @functools.cached_property
    def _session(self) -> Any:
        return new_session()

    def fetch(self, url: str, directory: Path) -> tuple[Path, str]:
        """Return a new file in the directory with the whole picture, and its extension.

        Raises Failure `download_failed`, or OSError if the disk does not take it.
        """
        why = why_url_refused(url, http_on_loopback=self._http_on_loopback)
        if why:
            raise failed(f"{url[:300]!r} is not opened: {why}")
        partial, deadline = directory / f".{secrets.token_hex(4)}.part", time.monotonic()
        self._partials.add(partial)
        fetch = functools.partial(self._fetch_once, url, partial, deadline + IMAGE_SECONDS)
        try:
            return partial, with_retry(fetch, IMAGE_SECONDS, self._stop)
        except (Failure, OSError):
            partial.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Delete what is half written; for the end of a run that was stopped."""
        for partial in list(self._partials):
            partial.unlink(missing_ok=True)

    def _fetch_once(self, url: str, partial: Path, deadline: float) -> str:
        declared = self._receive(url, partial, deadline)
        size = partial.stat().st_size
        with partial.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
        kind = format_of(head)
        if size and not kind:
            raise failed(f"{url}: the answer is not an image", transient=True)
        if not size or declared not in (None, str(size)) or FORMATS[kind].end not in tail:
            raise failed(f"{url}: cut off after {size} bytes", transient=True)
        return kind

    def _receive(self, url: str, partial: Path, deadline: float) -> str | None:
        """Write the answer's body into a file; return the declared length, if there is one."""
        began, response = time.monotonic(), None
        try:
            with (
                self._session.get(url, **request_options(GAP_SECONDS)) as response,
                partial.open("wb") as file,
            ):
                status = response.status_code
                if self._log:
                    took = 1000 * (time.monotonic() - began)
                    self._log(f"GET {url} {took:.0f} ms: {status} {response.reason}")
                if status != 200:
                    transient = status in (202, 408, 429) or status >= 500
                    raise failed(f"{url}: HTTP {status}", status, transient=transient)
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    if file.tell() > MAX_BYTES or time.monotonic() > deadline:
                        raise failed(f"{url}: too large, or not finished in {IMAGE_SECONDS:g} s")
                    if self._stop.is_set():
                        raise Failure("interrupted", f"{url}: stopped")
        except (OSError, ValueError) as error:
            if not is_network_error(error):  # the disk's
                raise
            failure = connection_failure(error, answered=response is not None)
            raise failed(f"{url}: {failure.message}", transient=failure.transient) from None
        encoded = "Content-Encoding" in response.headers
        return None if encoded else response.headers.get("Content-Length")
