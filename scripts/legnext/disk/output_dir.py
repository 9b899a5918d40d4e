"""What stands in --output-dir: a folder per job with its record and pictures, and traces of submits.

The records make the same command safe to repeat: a prompt that has one is never bought twice. Between two
runs the trace of a submit is the lock that keeps them apart: it is made before the send, named by its prompt
so that two runs meet at it, and held for as long as the outcome is open. Found unheld it says that a process
died with its submit out: nobody knows whether a job was created.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from legnext.disk.files import (
    NoLocks,
    ends_of,
    mark_finished,
    mark_unfinished,
    open_partial,
    partial_beside,
    read_regular,
    remove,
    sweep,
    try_lock,
    write_out,
    write_whole,
)
from legnext.errors import Failure
from legnext.job import Job, is_job_id, parse_job
from legnext.picture import EXTENSIONS, is_whole, pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORD = "job.json"
GALLERY = "gallery.html"
_TRACE = "submit-"
_PROBE_BYTES = 65536
# The size of a JPEG may stand behind a preview and a colour profile.
_HEADER_BYTES = 65536


_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Record(NamedTuple):
    """What `job.json` says: the job with what only this side knows; times are ISO 8601, UTC."""

    job: Job
    prompt: str | None
    submitted_at: str | None


class Trace(NamedTuple):
    """A submit that was sent, or about to be, and whose outcome is not on record.

    `balance` is what there was before it, in USD. `held` says that its process lives and may still tell.
    """

    path: Path
    prompt: str
    submitted_at: str | None
    balance: float | None = None
    held: bool = False


class Reservation:
    """The right to submit a prompt: its trace, held until the outcome is known.

    `after` is the moment of the last submit of this prompt that a record or a trace tells of. The next needs
    another, in whole seconds: prompt and moment are what tells whose record answers a trace.
    """

    def __init__(self, path: Path, descriptor: int, here: set[Path]) -> None:
        """Hold an open, locked trace; `here` are the paths that this process holds."""
        self.path = path
        self.after = ""
        self._descriptor = descriptor
        self._here = here

    def announce(self, prompt: str, submitted_at: str, balance: float | None) -> None:
        """Write what is about to be sent, onto the disk. Raises Failure `file_error`.

        A run that is stopped before `sent` takes the trace along.
        """
        mark_unfinished(self.path)
        body: dict[str, object] = {"prompt": prompt, "submitted_at": submitted_at, "balance_usd": balance}
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with open(self._descriptor, "wb", closefd=False) as file:
                write_out(file, [_encode(body)])
        except OSError as error:
            self.answered()
            raise file_error("the submit could not be put on record, so it was not sent", error) from None

    def sent(self) -> None:
        """Let the trace stay whatever happens: from now on a job may exist."""
        mark_finished(self.path)

    def answered(self) -> None:
        """Remove the trace: the outcome is known, and on record where there is a job."""
        # Emptied first, which says as much: Windows keeps the name for as long as anybody has it open.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        mark_finished(self.path)  # before its name is free: a stopped run must not remove another's
        if os.name == "nt":
            self.let_go()
        remove(self.path)
        self.let_go()

    def let_go(self) -> None:
        """Hold it no longer; what stands in the trace stays, and says that nobody knows."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._here.discard(self.path)


class Picture(NamedTuple):
    """A picture on disk that is whole; `pixels` are (width, height), None where its format does not tell."""

    path: str
    pixels: tuple[int, int] | None


class OutputDir:
    """A directory given with --output-dir; safe to use from threads."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        """Name it; nothing is touched. `warn` is told of what cannot be read."""
        self.path = Path(os.path.abspath(path))  # links stay as the user wrote them
        self._tell = warn
        self._told: set[str] = set()
        # What this run has taken: job ids that it has read or made, and traces that a prompt stands for.
        self._read: set[str] = set()
        self._unclaimed: dict[str, list[Record]] = defaultdict(list)
        self._taken: set[Path] = set()
        self._here: set[Path] = set()
        # When each prompt was last submitted, by its digest: as far as this run has read.
        self._moments: dict[str, str] = {}
        self._lock = Lock()

    @property
    def gallery(self) -> Path:
        """The page of all jobs."""
        return self.path / GALLERY

    def warn(self, line: str) -> None:
        """Tell of something that cannot be read or written, once."""
        if line not in self._told:
            self._told.add(line)
            self._tell(line)

    def prepare(self) -> None:
        """Create the directory; prove that it takes files and can be listed. Raises Failure `file_error`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with partial_beside(self.path / "probe") as probe, open_partial(probe) as file:
                write_out(file, [bytes(_PROBE_BYTES)])
        except OSError as error:
            raise file_error("--output-dir cannot be written", error) from None
        sweep(self.path)
        for name in filter(is_job_id, self._names()):
            sweep(self.path / name)

    def folder(self, job_id: str) -> str:
        """Return the path of a job's folder."""
        return os.path.join(self.path, job_id)

    # Records

    def save(self, record: Record, error: dict[str, object] | None = None) -> None:
        """Write the job's record, with `error` where it failed. Raises Failure `file_error`."""
        body = record.job.as_json()
        body["prompt"] = record.prompt
        body["submitted_at"] = record.submitted_at
        if error:
            body["error"] = error
        folder = self.path / record.job.job_id
        with self._lock:
            self._note(record)  # no other prompt of this run claims it
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / RECORD, [_encode({k: v for k, v in body.items() if v is not None})])
        except OSError as failure:
            raise file_error("the job's record could not be written", failure) from None

    def load(self, job_id: str) -> Record | None:
        """Return the record of `job_id`, or None where there is none, or one that is nonsense.

        Raises Failure `file_error` where it cannot be read: the job in it would be bought again.
        """
        path = os.path.join(self.folder(job_id), RECORD)
        try:
            content = read_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise file_error("a record cannot be read, so nothing was sent", error) from None
        try:
            body = json.loads(content)
            prompt, submitted_at = body.get("prompt"), body.get("submitted_at")
            return Record(
                parse_job(body, job_id),
                prompt if isinstance(prompt, str) else None,
                submitted_at if isinstance(submitted_at, str) else None,
            )
        except (ValueError, AttributeError, RecursionError) as error:
            if b'"job_id"' in content or job_id.count("-") == 4:  # else it is another tool's
                self.warn(f"damaged record {path}: {type(error).__name__}: {error}")
            return None

    def records(self) -> Iterator[Record]:
        """Yield every record that makes sense, in no order. Raises Failure `file_error`."""
        for name in self._names():
            if is_job_id(name):
                record = self.load(name)
                if record is not None:
                    yield record

    def pictures(self, job_id: str, names: list[str], *, measured: bool = False) -> dict[str, Picture | None]:
        """Return the job's pictures by name (no extension), None for one that is not there whole.

        Only `measured` ones have pixels.
        """
        stem = os.path.join(self.folder(job_id), "")
        return {name: _picture(stem + name, measured=measured) for name in names}

    def names_of_pictures(self, job_id: str) -> dict[str, str]:
        """Return the names of the picture files in a job's folder by their stems, whole or not."""
        with contextlib.suppress(OSError):
            split = [name.rpartition(".") for name in os.listdir(self.folder(job_id))]
            return {stem: f"{stem}.{ending}" for stem, _dot, ending in split if ending in EXTENSIONS}
        return {}

    # Who submits a prompt

    def traces(self, *, drop: bool = True) -> list[Trace]:
        """Return the submits whose outcome is not on record; `drop` removes the files of the others.

        Raises Failure `file_error`.
        """
        names = [name for name in self._names() if name.startswith(_TRACE) and name.endswith(".json")]
        found = (self._look_at(self.path / name, drop=drop) for name in names)
        return [trace for trace in found if trace]

    def take(self, trace: Path) -> None:
        """Note that a prompt of this run stands for `trace`, and no other does."""
        with self._lock:
            self._taken.add(trace)

    def take_records(self) -> list[Record]:
        """Return all records; from then on this run knows them. Raises Failure `file_error`."""
        found = list(self.records())
        with self._lock:
            for record in found:
                self._note(record)
        return found

    def reserve(self, prompt: str, *, again: bool = False) -> Reservation | Record | Trace:
        """Return the right to submit `prompt`, or what makes that needless: read anew, under its lock.

        A Record (not if it is to be bought `again`): another run has submitted it meanwhile. A Trace that is
        held: another submit of it is under way, ask again shortly. A Trace that is not: its outcome is
        unknown, and this run's prompt stands for it. Raises Failure `file_error`.
        """
        for number in range(1, 1_000_000):
            path = self.path / f"{_TRACE}{_digest(prompt)}-{number}.json"
            reservation = self._lock_trace(path)
            if reservation is None:
                return Trace(path, prompt, None, held=True)
            try:
                self._read_new()
                record = None if again else self._claim(prompt)
                trace = self._read_trace(path)
                if trace and self._is_answered(trace):
                    trace = None
            except BaseException:
                reservation.let_go()
                raise
            reservation.after = self._moments.get(_digest(prompt), "")
            if trace is None and record is None:
                return reservation
            if trace is None:
                reservation.answered()
            reservation.let_go()
            if record:
                return record
            with self._lock:
                if trace and path not in self._taken:
                    self._taken.add(path)
                    return trace
        raise AssertionError("unreachable")

    def submitted_meanwhile(self) -> list[str]:
        """Return the prompts that other runs submit just now, or have since `take_records`.

        Raises Failure `file_error`.
        """
        # The traces first: a job's record is there before its trace goes.
        found = {(trace.prompt, trace.submitted_at) for trace in self.traces(drop=False) if trace.held}
        found |= {(record.prompt or "", record.submitted_at) for record in self._new_records()}
        return [prompt for prompt, _moment in found]

    def _read_new(self) -> None:
        """Read the records that have come since this run read them."""
        for record in self._new_records():
            with self._lock:
                if record.job.job_id not in self._read:
                    self._note(record)
                    self._unclaimed[record.prompt or ""].append(record)

    def _new_records(self) -> Iterator[Record]:
        new = [name for name in self._names() if is_job_id(name) and name not in self._read]
        return filter(None, map(self.load, new))

    def _claim(self, prompt: str) -> Record | None:
        """Return one of them that is of `prompt`, each once."""
        with self._lock:
            waiting = self._unclaimed.get(prompt)
            return waiting.pop(0) if waiting else None

    def _note(self, record: Record) -> None:
        self._read.add(record.job.job_id)
        self._note_moment(record.prompt, record.submitted_at)

    def _note_moment(self, prompt: str | None, submitted_at: str | None) -> None:
        if prompt and submitted_at:
            digest = _digest(prompt)
            self._moments[digest] = max(self._moments.get(digest, ""), submitted_at)

    def _lock_trace(self, path: Path) -> Reservation | None:
        """Return the trace, held, made where it is not there; None where another holds it."""
        while True:
            with self._lock:
                if path in self._here:
                    return None
                self._here.add(path)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
            except OSError as error:
                self._here.discard(path)
                raise file_error("a submit's trace cannot be made, so nothing was sent", error) from None
            reservation = Reservation(path, descriptor, self._here)
            if not self._try_lock(descriptor):
                reservation.let_go()
                return None
            # Whoever held it may have removed it since it was opened: then the name is free, or another's.
            with contextlib.suppress(OSError):
                if os.name == "nt" or os.path.samestat(os.fstat(descriptor), path.stat()):
                    return reservation
            reservation.let_go()

    def _try_lock(self, descriptor: int) -> bool:
        try:
            return try_lock(descriptor)
        except NoLocks as error:
            self.warn(
                f"{self.path} knows no file locks ({error.strerror}): two runs at once in it may both submit "
                "a prompt, so run one at a time"
            )
            return True

    def _look_at(self, path: Path, *, drop: bool) -> Trace | None:
        """Return what a trace says, None where that is nothing; taken under its lock, or told as held."""
        try:
            descriptor = os.open(path, os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error("a submit's trace cannot be read, so nothing was sent", error) from None
        reservation = Reservation(path, descriptor, set())
        try:
            free = path not in self._here and self._try_lock(descriptor)
            trace = self._read_trace(path, tell=free)
            if not free:
                return trace and trace._replace(held=True)
            if trace and not self._is_answered(trace):
                return trace
            if drop and (trace or not os.fstat(descriptor).st_size):
                reservation.answered()
            return None
        finally:
            reservation.let_go()

    def _read_trace(self, path: Path, *, tell: bool = True) -> Trace | None:
        """Return what stands in a trace; None where it is empty, gone, or cut, and so was never sent."""
        try:
            content = read_regular(os.fspath(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error("a submit's trace cannot be read, so nothing was sent", error) from None
        if not content:
            return None
        try:
            body = json.loads(content)
            prompt, submitted_at, balance = (
                str(body["prompt"]),
                body.get("submitted_at"),
                body.get("balance_usd"),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if tell:
                self.warn(f"damaged trace {path}: {type(error).__name__}: {error}")
            return None
        usd = float(balance) if isinstance(balance, (int, float)) else None
        trace = Trace(path, prompt, submitted_at if isinstance(submitted_at, str) else None, usd)
        with self._lock:
            self._note_moment(trace.prompt, trace.submitted_at)
        return trace

    def _is_answered(self, trace: Trace) -> bool:
        """Say whether the job of `trace` is on record: its process ended between the two."""
        return trace.submitted_at is not None and any(
            (record.prompt, record.submitted_at) == (trace.prompt, trace.submitted_at)
            for record in self.records()
        )

    def _names(self) -> list[str]:
        """List the directory. Raises Failure `file_error`: read as empty, all in it would be bought again."""
        try:
            return sorted(os.listdir(self.path))
        except OSError as error:
            raise file_error("--output-dir cannot be listed, so nothing was sent", error) from None


def _digest(prompt: str) -> str:
    from hashlib import sha256

    return sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _picture(stem: str, *, measured: bool) -> Picture | None:
    for ending in EXTENSIONS:
        path = f"{stem}.{ending}"
        with contextlib.suppress(OSError):
            head, tail, size = ends_of(path, _HEADER_BYTES if measured else 12)
            if is_whole(head, tail, size):
                return Picture(path, pixels(head) if measured else None)
    return None


def file_error(what: str, error: OSError) -> Failure:
    """Return the Failure for a fault of the disk."""
    where = f" ({error.filename})" if error.filename else ""
    return Failure("file_error", f"{what}: {error.strerror or error}{where}")


def _encode(body: dict[str, object]) -> bytes:
    return json.dumps(body, indent=2).encode() + b"\n"
