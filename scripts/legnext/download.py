"""Pictures: downloaded whole or not at all, and found on disk. No key goes to their host."""

import contextlib
import functools
import os
import re
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from legnext.api import is_transient, retry_after, with_retry
from legnext.errors import Failure
from legnext.job import Job, without_empty
from legnext.settings import why_url_refused
from legnext.transport import connection_failure, new_session, request_options

FORMATS = {  # by extension: the pattern of its first bytes, and a mark that a whole one has
    "png": (rb"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "jpg": (rb"\xff\xd8\xff", b"\xff\xd9"),
    "webp": (rb"RIFF....WEBP", b""),
    "avif": (rb"....ftypavif", b""),
}
OURS = re.compile(rf"(grid|\d\d?)\.({'|'.join(FORMATS)})")
HEAD_BYTES = 24  # every beginning, and the size of a PNG
TAIL_BYTES = 65536  # some hosts append bytes after a picture's own end
MAX_IMAGE_BYTES = 100_000_000
GAP_SECONDS = 15.0  # between two pieces
IMAGE_SECONDS = 120.0  # for a whole picture: tens of MB over a slow line
CHUNK = 16384


def format_of(head: bytes) -> str:
    kinds = (kind for kind, (start, _) in FORMATS.items() if re.match(start, head, re.DOTALL))
    return next(kinds, "")


def pictures_in(folder: Path) -> dict[str, str]:
    """Return the picture files in a job's folder by name: grid, 1, 2 and so on."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    named = {match[1]: file for file in found if (match := OURS.fullmatch(file))}
    return dict(sorted(named.items(), key=lambda item: item[0].zfill(2)))


def describe_files(folder: Path, job: Job) -> dict[str, Any]:
    """Return what is printed of a job's pictures on disk, {} without any."""
    files = pictures_in(folder)
    if not files:
        return {}
    missing = [f"{name}.png" for name in job.urls if name not in files]
    paths = {name: str(folder / file) for name, file in files.items()}
    grid, images = paths.pop("grid", ""), list(paths.values())
    body = without_empty({"dir": str(folder), "missing": missing, "grid": grid})
    body["images"] = images
    with contextlib.suppress(OSError, IndexError, struct.error):
        with Path(images[0]).open("rb") as file:
            head = file.read(HEAD_BYTES)
        if format_of(head) == "png":
            body["pixels"] = list(struct.unpack(">II", head[16:24]))
    return body


def failed(words: str, code: int | None = None, *, transient: bool = False) -> Failure:
    return Failure("download_failed", words, code=code, transient=transient)


class Downloader:
    """Downloads over one session. Threads may share it."""

    def __init__(
        self, stop: threading.Event, log: Callable[[object], None] | None, *, http_on_loopback: bool
    ) -> None:
        self.stop, self.log, self.http_on_loopback = stop, log, http_on_loopback

    @functools.cached_property
    def _session(self) -> Any:
        return new_session()

    def fetch(self, url: str) -> tuple[bytes, str]:
        """Return the whole picture and its extension. Raises Failure `download_failed`."""
        if why := why_url_refused(url, http_on_loopback=self.http_on_loopback):
            raise failed(f"{url[:300]!r} is not opened: {why}")
        fetch = functools.partial(self._fetch, url, time.monotonic() + IMAGE_SECONDS)
        return with_retry(fetch, IMAGE_SECONDS, self.stop)

    def _fetch(self, url: str, deadline: float) -> tuple[bytes, str]:
        content, declared = self._receive(url, deadline)
        kind, size = format_of(content), len(content)
        if size and not kind:
            raise failed(f"{url}: the answer is not an image", transient=True)
        is_whole = size and (not declared.isdecimal() or int(declared) == size)
        if not is_whole or FORMATS[kind][1] not in content[-TAIL_BYTES:]:
            raise failed(f"{url}: cut off after {size} bytes", transient=True)
        return content, kind

    def _receive(self, url: str, deadline: float) -> tuple[bytes, str]:
        """Return the answer's body and the declared length, "" if there is none."""
        began, content, response = time.monotonic(), bytearray(), None
        try:
            with self._session.get(url, **request_options(GAP_SECONDS)) as response:
                status = response.status_code
                if self.log:
                    took = 1000 * (time.monotonic() - began)
                    self.log(f"GET {url} {took:.0f} ms: {status} {response.reason}")
                if status != 200:
                    failure = failed(f"{url}: HTTP {status}", status)
                    failure.transient = status == 202 or is_transient(status)
                    failure.retry_after = retry_after(response.headers)
                    raise failure
                for chunk in response.iter_content(CHUNK):
                    content += chunk
                    if len(content) > MAX_IMAGE_BYTES or time.monotonic() > deadline:
                        raise failed(f"{url}: too large, or not finished in {IMAGE_SECONDS:g} s")
                    if self.stop.is_set():
                        raise Failure("interrupted", f"{url}: stopped")
        except (OSError, ValueError) as error:
            failure = connection_failure(error, answered=response is not None)
            raise failed(f"{url}: {failure.message}", transient=failure.transient) from None
        headers = response.headers
        is_unsized = "Content-Encoding" in headers or "Transfer-Encoding" in headers
        return bytes(content), "" if is_unsized else headers.get("Content-Length", "")
