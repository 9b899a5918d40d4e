"""The output directory: which jobs are on record, what answers a prompt, the lock.

Only the holder of the lock submits, among all threads and processes; it is released when the
process ends. So an intent found under it is of a process that is gone: with an id it becomes a
record, without one the outcome of its submit is unknown.
"""

import contextlib
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unicodedata import normalize

from legnext import records
from legnext.errors import Failure
from legnext.job import FAILED, recorded_job, text
from legnext.records import Intent
from legnext.task import Record, Task

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BUSY = OSError if sys.platform == "win32" else BlockingIOError  # the lock is held
LOCK_SECONDS, LOCK_PAUSE = 100.0, 0.05  # a submit takes up to 90 s
MAX_PASSES = 20
OURS = ("prompt", "typed", "name", "submitted_at", "nonce", "host")
LONGEST_NAME, SLUG_LENGTH = 60, 40  # of folders


def prompt_keys(fields: Record) -> set[str]:
    """Return the prompts of a record or task, in NFC, with single blanks."""
    prompts = [text(fields.get(name)) for name in ("prompt", "typed")]
    return {" ".join(normalize("NFC", prompt).split()) for prompt in prompts} - {""}


def merge(old: Record, new: Record) -> Record:
    """Return a record with what is new; what only we know stays, and a final status."""
    merged = {**old, **new, **{name: old[name] for name in OURS if name in old}}
    if old and recorded_job(old).is_final and not recorded_job(merged).is_final:
        merged["status"] = old["status"]
    if "error" in merged and not recorded_job(merged).has_failed:
        del merged["error"]
    return merged


def preference(record: Record, typed: str) -> tuple[bool, bool, str, str]:
    """Sort records of one prompt: the earliest that did not fail is first."""
    has_failed, is_other = record.get("status") in FAILED, text(record.get("typed")) != typed
    return has_failed, is_other, str(record.get("submitted_at")), record["job_id"]


class Store:
    """The records in a directory. Without one (None) it only keeps submits from overlapping."""

    def __init__(self, directory: Path | None, host: str, warn: Callable[[str], None]) -> None:
        self.directory, self.host, self._warn = directory, host, warn
        self.records: dict[str, Record] = {}  # by job id
        self.foreign: dict[str, Record] = {}  # of other hosts: they do not count
        self.folders: dict[str, Path] = {}  # by job id
        self.claimed: set[str] = set()  # ids and intents' names that answer a task
        self.unknown: list[Intent] = []  # submits of unknown outcome
        self.damaged: Failure | None = None  # why a record cannot be read
        self._ids_by_prompt: dict[str, set[str]] = {}
        self._read: set[tuple[str, int]] = set()  # (name, inode) of folders
        self._process_lock = threading.Lock()
        self._has_locks = True

    def prepare(self) -> None:
        """Try whether a job's files can be written. Raises Failure `file_error`."""
        if self.directory is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory("-" * LONGEST_NAME, ".", self.directory) as probe:
                records.write_whole(Path(probe, "0.json"), [b"{}"])
        except (OSError, ValueError) as error:
            raise Failure("file_error", f"{self.directory} cannot be used: {error}") from None

    @contextlib.contextmanager
    def lock(self, stop: threading.Event) -> Iterator[None]:
        """Hold the lock. Raises Failure `timeout`, `interrupted`, OSError."""
        with self._process_lock, contextlib.ExitStack() as stack:
            if self.directory and self._has_locks:
                self.directory.mkdir(parents=True, exist_ok=True)
                while True:
                    if sys.platform == "win32":  # a directory cannot be opened there
                        handle = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT)
                    else:
                        handle = os.open(self.directory, os.O_RDONLY)
                    stack.callback(os.close, handle)
                    self._wait_for_lock(handle, self.directory, stop)
                    is_own = os.path.samestat(os.fstat(handle), os.stat(self.directory))
                    if is_own or sys.platform == "win32":
                        break  # else another directory has its name now
            yield

    def _wait_for_lock(self, handle: int, directory: Path, stop: threading.Event) -> None:
        """Poll the lock until LOCK_SECONDS after the last change: others may queue too."""
        last_change, deadline = 0, 0.0
        while True:
            try:
                if sys.platform == "win32":
                    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
                else:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BUSY:
                change, now = os.stat(directory).st_mtime_ns, time.monotonic()
            except OSError as error:
                self._has_locks = False
                self._warn(f"{directory} has no file locks ({error}): run one command at a time")
                return
            if change != last_change:
                last_change, deadline = change, now + LOCK_SECONDS
            if now > deadline:
                raise Failure("timeout", "another command is submitting here")
            if stop.wait(LOCK_PAUSE):
                raise Failure("interrupted", "stopped before the submit")

    def refresh(self) -> list[Intent]:
        """Read the new records, and return all intents. Raises Failure.

        One listing may miss a folder that is being renamed: two have to agree. An inode alone does
        not identify a folder: ext4 uses it again at once.
        """
        if self.directory is None:
            return []
        before: set[tuple[str, int]] | None = None
        intents: list[Intent] = []
        for _ in range(MAX_PASSES):
            folders, names = records.list_directory(self.directory)
            if folders == before:
                break
            before, intents, self.damaged = folders, [], None
            for name, inode in sorted(folders - self._read):
                try:
                    if record := records.load_record(self.directory / name):
                        self._add(record, self.directory / name)
                        self._read.add((name, inode))
                except Failure as failure:
                    self.damaged = failure
            for name in names:
                try:
                    intents += filter(None, [records.load_intent(self.directory / name)])
                except Failure as failure:
                    self.damaged = failure
        else:
            raise Failure("timeout", f"{self.directory} keeps changing")
        mine = [intent for intent in intents if intent.record.get("host") == self.host]
        self.unknown = [intent for intent in mine if "job_id" not in intent.record]
        for record in [intent.record for intent in intents if "job_id" in intent.record]:
            if record["job_id"] not in self.records:
                self._add(record)
        return intents

    def _add(self, record: Record, folder: Path | None = None) -> None:
        job_id = record["job_id"]
        known = self.records if (record.get("host") or self.host) == self.host else self.foreign
        old = known.get(job_id, {})
        if folder and (record.get("downloaded") or not old.get("downloaded")):
            self.folders[job_id] = folder  # a copy from before has no pictures
        known[job_id] = merge(old, record)
        for key in prompt_keys(record):
            self._ids_by_prompt.setdefault(key, set()).add(job_id)

    def settle_intents(self) -> None:
        """Make records of intents with an id. Only under the lock. Raises as `refresh`."""
        for intent in self.refresh():
            if job_id := intent.record.get("job_id"):
                if job_id not in self.folders:
                    self.add_record(intent.record)
                records.remove_intent(intent)

    def claim(self, task: Task, *, same_name: bool = False) -> Record | None:
        """Return a record of the task's prompt that answers no other task, or None."""
        known = self._find_records(task, self.records)
        found = [record for record in known if record["job_id"] not in self.claimed]
        if same_name:
            found = [record for record in found if (record.get("name") or "") == task.name]
        if task.replaces_failed:
            found = [record for record in found if record.get("status") not in FAILED]
        best = min(found, key=lambda record: preference(record, task.typed), default=None)
        self.claimed |= {best["job_id"]} if best else set()
        return best

    def claim_unknown(self, task: Task) -> Intent | None:
        """Return a submit of the task's prompt whose outcome is unknown, likewise."""
        for intent in self.unknown:
            is_free = intent.path.name not in self.claimed or intent.path == task.intent
            if is_free and prompt_keys(intent.record) & prompt_keys(vars(task)):
                task.intent = intent.path
                self.claimed.add(intent.path.name)
                return intent
        return None

    def submits(self) -> tuple[list[Record], list[Record]]:
        """Return the jobs on record, and the submits of unknown outcome."""
        return list(self.records.values()), [intent.record for intent in self.unknown]

    def foreign_records(self, task: Task) -> list[Record]:
        return self._find_records(task, self.foreign)

    def _find_records(self, task: Task, known: dict[str, Record]) -> list[Record]:
        keys = prompt_keys(vars(task))
        ids = {job_id for key in keys for job_id in self._ids_by_prompt.get(key, ())}
        return [known[job_id] for job_id in ids if job_id in known]

    def add_record(self, record: Record) -> None:
        """Make a folder for a new job. Only under the lock. Raises OSError, Failure."""
        self._add(record)
        if self.directory is None:
            return
        job_id, words = record["job_id"], record.get("name") or record.get("prompt") or ""
        words = re.sub(r"(?s)\s--[a-z].*|https?://\S+", "", words)
        slug = re.sub("[^a-z0-9]+", "-", words.lower())[:SLUG_LENGTH].strip("-") or "job"
        folder = self.directory / f"{slug}-{job_id[:8]}"
        if folder.exists():
            folder = self.directory / f"{slug}-{job_id}"
        folder.mkdir(parents=True, exist_ok=True)  # the directory may have been moved away
        self._update(folder, record)

    def save(self, record: Record, stop: threading.Event) -> None:
        """Merge this into the job's record, or make one. Raises OSError, Failure."""
        job_id = record["job_id"]
        if self.directory is None or self._in_folder(job_id, self._update, record):
            return
        with self.lock(stop):
            self.settle_intents()
            if not self._in_folder(job_id, self._update, record):
                self.add_record(merge(self.records.get(job_id, {}), record))

    def place_file(self, partial: Path, job_id: str, name: str) -> bool:
        """Move a file into the job's folder; False if it is gone. Raises OSError."""
        return self._in_folder(job_id, lambda folder: partial.replace(folder / name))

    def _update(self, folder: Path, new: Record) -> None:
        found = records.load_record(folder) or {}
        merged = merge(found, new)
        if merged != found:
            records.write_record(folder, merged)
        self._add(merged, folder)

    def _in_folder(self, job_id: str, action: Callable[..., object], *args: object) -> bool:
        """Run `action` in the job's folder, wherever it is now; False if there is none."""
        while folder := self._find_folder(job_id):
            self.folders[job_id] = folder
            try:
                action(folder, *args)
                return True
            except FileNotFoundError:
                if records.has_record(folder, job_id):  # else it was renamed meanwhile
                    raise
        return False

    def _find_folder(self, job_id: str) -> Path | None:
        known = self.folders.get(job_id)
        if self.directory is None or (known and records.has_record(known, job_id)):
            return known
        folders, _ = records.list_directory(self.directory)
        paths = (self.directory / name for name, _ in sorted(folders))
        return next((path for path in paths if records.has_record(path, job_id)), None)
