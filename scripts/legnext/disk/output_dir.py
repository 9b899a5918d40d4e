"""What stands in --output-dir: a folder per job with record and images, traces of submits, the gallery."""

from __future__ import annotations

import contextlib
import json
import os
import time
from errno import ENOENT
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from legnext.errors import Failure
from legnext.job import Job, is_job_id, parse_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legnext.disk.gallery import Card

RECORD = "job.json"
GALLERY = "gallery.html"
EXTENSIONS = ("png", "jpg", "webp", "gif", "avif")
_TRACE = "submit-"
_PROBE_BYTES = 65536

# The gallery is rewritten whole: with thousands of jobs in it, rather a little late than all the time.
_GALLERY_SHARE = 20

_partial: set[Path] = set()
_partial_lock = Lock()


class Record(NamedTuple):
    """What `job.json` says: the job with what only this side knows; times are ISO 8601, UTC."""

    job: Job
    prompt: str | None
    submitted_at: str | None


class Trace(NamedTuple):
    """A submit that was sent, or about to be, and whose outcome is not on record."""

    path: Path
    prompt: str
    submitted_at: str | None


@contextlib.contextmanager
def partial_beside(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for what is not whole yet; whatever happens, no file of it is left."""
    partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    with _partial_lock:
        _partial.add(partial)
    try:
        yield partial
    finally:
        with _partial_lock:
            _partial.discard(partial)
            _remove(partial)


def begin(partial: Path) -> BinaryIO:
    """Open a name from `partial_beside`, unless it was given up since. Raises OSError."""
    with _partial_lock:
        if partial not in _partial:
            raise FileNotFoundError(ENOENT, "given up", str(partial))
        return partial.open("wb")


def remove_partial() -> None:
    """Remove what is not whole yet, and let nothing more be begun: the run is being stopped."""
    # The lock is kept, so nothing is begun after; but a disk that hangs must not hold up the end.
    if _partial_lock.acquire(timeout=0.5):
        for partial in _partial:
            _remove(partial)


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):  # on Windows it may be open still; nothing more can be done here
        partial.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all. Raises OSError."""
    with partial_beside(path) as partial:
        _write(partial, data)
        partial.replace(path)


def _write(path: Path, data: bytes) -> None:
    with begin(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class OutputDir:
    """A directory given with --output-dir; `warn` is told of records that cannot be read."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        """Name it; nothing is touched."""
        self.path = Path(os.path.abspath(path))  # links stay as the user wrote them
        self._tell = warn
        self._told: set[str] = set()
        self._gallery_lock = Lock()
        self._gallery_stale = False
        self._gallery_rests_until = 0.0

    @property
    def gallery(self) -> Path:
        """The page of all jobs."""
        return self.path / GALLERY

    def _warn(self, line: str) -> None:
        if line not in self._told:  # records are read again with every gallery
            self._told.add(line)
            self._tell(line)

    def prepare(self) -> None:
        """Create the directory and prove that it takes files. Raises Failure `file_error`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with partial_beside(self.path / "probe") as probe:
                _write(probe, bytes(_PROBE_BYTES))
        except OSError as error:
            raise file_error("--output-dir cannot be written", error) from None

    def save(self, record: Record, error: dict[str, object] | None = None) -> None:
        """Write the job's record, with `error` where it failed. Raises Failure `file_error`."""
        body = record.job.as_json()
        body["prompt"] = record.prompt
        body["submitted_at"] = record.submitted_at
        if error:
            body["error"] = error
        folder = self.path / record.job.job_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / RECORD, _encode({k: v for k, v in body.items() if v is not None}))
        except OSError as failure:
            raise file_error("the job's record could not be written", failure) from None

    def load(self, job_id: str) -> Record | None:
        """Return the record of `job_id`, or None where there is none that can be read."""
        path = os.path.join(self.path, job_id, RECORD)
        try:
            with open(path, "rb") as file:
                body = json.loads(file.read())
            prompt, submitted_at = body.get("prompt"), body.get("submitted_at")
            return Record(
                parse_job(body, job_id),
                prompt if isinstance(prompt, str) else None,
                submitted_at if isinstance(submitted_at, str) else None,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            self._warn(f"damaged record {path}: {type(error).__name__}: {error}")
            return None

    def records(self) -> Iterator[Record]:
        """Yield every record that can be read, in no order."""
        for name in _names(self.path):
            if is_job_id(name):
                record = self.load(name)
                if record is not None:
                    yield record

    def changed(self) -> None:
        """Rewrite the gallery: a job has changed. It rests in between, in proportion to its size."""
        self._gallery_stale = True
        if time.monotonic() >= self._gallery_rests_until and self._gallery_lock.acquire(blocking=False):
            try:
                began = time.monotonic()
                self._gallery_stale = False
                self._write_gallery()
                took = time.monotonic() - began
                self._gallery_rests_until = time.monotonic() + _GALLERY_SHARE * took
            finally:
                self._gallery_lock.release()

    def close(self) -> None:
        """Bring the gallery up to date at the end of a run."""
        with self._gallery_lock:
            if self._gallery_stale:
                self._write_gallery()

    def _write_gallery(self) -> None:
        from legnext.disk.gallery import render

        try:
            write_whole(self.gallery, render(map(self._card, self.records())).encode())
        except OSError as error:
            self._warn(f"the gallery could not be written: {error.strerror or error}")

    def _card(self, record: Record) -> Card:
        from legnext.disk.gallery import Card

        job = record.job
        ended_at, usage = job.meta.get("ended_at"), job.meta.get("usage")
        points = (usage.get("consume") or usage.get("frozen")) if isinstance(usage, dict) else None
        grid: str | None = None
        pictures: dict[int, str] = {}
        for name in _names(self.path / job.job_id):
            stem, _dot, ending = name.partition(".")
            if ending in EXTENSIONS:
                if stem == "grid":
                    grid = f"{job.job_id}/{name}"
                elif stem.isdecimal():
                    pictures[int(stem)] = f"{job.job_id}/{name}"
        return Card(
            job_id=job.job_id,
            status=job.status,
            prompt=record.prompt,
            seed=job.seed,
            submitted_at=record.submitted_at,
            ended_at=ended_at if isinstance(ended_at, str) else None,
            points=points if isinstance(points, int) else None,
            error=job.error.message if job.error else None,
            grid=grid,
            images=tuple(pictures[number] for number in sorted(pictures)),
            image_urls=job.image_urls,
        )

    def announce(self, prompt: str, submitted_at: str) -> Path:
        """Leave a trace of a submit that is about to be sent. Raises Failure `file_error`."""
        path = self.path / f"{_TRACE}{os.urandom(6).hex()}.json"
        try:
            write_whole(path, _encode({"prompt": prompt, "submitted_at": submitted_at}))
        except OSError as error:
            raise file_error("the submit could not be put on record, so it was not sent", error) from None
        return path

    def settle(self, trace: Path) -> None:
        """Remove a trace: the outcome of its submit is known and on record."""
        try:
            trace.unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"could not remove {trace}: {error}")

    def traces(self) -> Iterator[Trace]:
        """Yield the submits whose outcome nobody knows."""
        for name in _names(self.path):
            if name.startswith(_TRACE) and name.endswith(".json"):
                path = self.path / name
                try:
                    body = json.loads(path.read_bytes())
                    yield Trace(path, str(body["prompt"]), body.get("submitted_at"))
                except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    self._warn(f"damaged trace {path}: {type(error).__name__}: {error}")


def file_error(what: str, error: OSError) -> Failure:
    """Return the Failure for a fault of the disk."""
    where = f" ({error.filename})" if error.filename else ""
    return Failure("file_error", f"{what}: {error.strerror or error}{where}")


def _names(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _encode(body: dict[str, object]) -> bytes:
    return json.dumps(body, indent=2).encode() + b"\n"
