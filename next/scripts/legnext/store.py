"""The output directory: which jobs are on record, what answers a prompt, and the lock.

Whoever holds the lock is the only one that submits, among all threads and processes; it is released
when the process ends, however it ends. So an intent found under the lock is of a process that is
gone: with an id it becomes a record, without one the outcome of its submit is unknown.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from legnext.errors import Failure
from legnext.job import recorded_job
from legnext.records import (
    Intent,
    has_record,
    is_about,
    list_directory,
    load_intent,
    load_record,
    prompt_keys,
    remove_intent,
    write_record,
    write_whole,
)
from legnext.task import Record, Task

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_SECONDS, LOCK_PAUSE = 100.0, 0.05  # a submit takes up to 90 s
MAX_PASSES = 20
LONGEST_NAME = 60  # of a job's folder
SLUG_LENGTH = 40


def try_lock(handle: int) -> bool:
    """Lock, and say so, unless somebody else holds it. Raises OSError if there are no locks."""
    busy = PermissionError if sys.platform == "win32" else BlockingIOError
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except busy:
        return False
    return True


class Store:
    """The records in a directory. Without one (None) it only keeps submits from overlapping."""

    def __init__(self, directory: Path | None, host: str, warn: Callable[[str], None]) -> None:
        """`host`: the API's; records of another one do not count. `warn` gets a line of text."""
        self.directory, self.host, self._warn = directory, host, warn
        self.records: dict[str, Record] = {}  # by job id
        self.foreign: dict[str, Record] = {}  # of another host
        self.folders: dict[str, Path] = {}  # of the jobs
        self.claimed: set[str] = set()  # ids and intents' names that answer a task of this run
        self.unknown: list[Intent] = []  # submits of unknown outcome, as last read
        self.damaged: Failure | None = None  # why a record cannot be read
        self._ids_by_prompt: dict[str, set[str]] = {}
        self._read: set[tuple[str, int]] = set()  # (name, inode) of folders
        self._process_lock = threading.Lock()
        self._has_locks = True

    # --- The directory

    def prepare(self) -> None:
        """Make sure that the directory takes all that a job needs. Raises Failure `file_error`."""
        if self.directory is None:
            return
        probe = self.directory / f".{secrets.token_hex(LONGEST_NAME // 2)}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe.mkdir()
            try:
                write_whole(probe / "0.json", b"{}")
            finally:
                (probe / "0.json").unlink(missing_ok=True)
                probe.rmdir()
        except (OSError, ValueError) as error:
            raise Failure("file_error", f"{self.directory} cannot be used: {error}") from None

    @contextlib.contextmanager
    def lock(self, stop: threading.Event) -> Iterator[None]:
        """Hold the lock. Raises Failure `timeout`, `interrupted`, OSError."""
        with self._process_lock, contextlib.ExitStack() as stack:
            if self.directory and self._has_locks:
                self.directory.mkdir(parents=True, exist_ok=True)
                if sys.platform == "win32":  # a directory cannot be opened there
                    handle = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT)
                else:
                    handle = os.open(self.directory, os.O_RDONLY)
                stack.callback(os.close, handle)
                self._wait_for_lock(handle, self.directory, stop)
            yield

    def _wait_for_lock(self, handle: int, directory: Path, stop: threading.Event) -> None:
        """Poll the lock, for LOCK_SECONDS after the last change: others may be queueing too."""
        last_change, deadline = 0, 0.0
        while True:
            try:
                if try_lock(handle):
                    return
            except OSError as error:
                self._has_locks = False
                self._warn(f"{directory} has no file locks ({error}): run one command at a time")
                return
            change, now = os.stat(directory).st_mtime_ns, time.monotonic()
            if change != last_change:
                last_change, deadline = change, now + LOCK_SECONDS
            if now > deadline:
                raise Failure("timeout", "another command is submitting into this folder")
            if stop.wait(LOCK_PAUSE):
                raise Failure("interrupted", "stopped before the submit")

    def read(self) -> list[Intent]:
        """Take in the records that are new, and return all intents. Raises Failure `file_error`.

        Folders are listed again until they stay the same: one listing may miss a folder that is
        being renamed. The inode alone does not identify a folder: ext4 uses it again at once.
        """
        if self.directory is None:
            return []
        before: set[tuple[str, int]] | None = None
        intents: list[Intent] = []
        for _ in range(MAX_PASSES):
            folders, files = list_directory(self.directory)
            if folders == before:
                break
            before, intents, self.damaged = folders, [], None
            for name, inode in sorted(folders - self._read):
                try:
                    if record := load_record(self.directory / name):
                        self._add(record, self.directory / name)
                        self._read.add((name, inode))
                except Failure as failure:
                    self.damaged = failure
            for name in files:
                try:
                    intents += filter(None, [load_intent(self.directory / name)])
                except Failure as failure:
                    self.damaged = failure
        else:
            raise Failure("file_error", f"{self.directory} keeps changing: try again")
        for intent in intents:
            known = intent.job_id in self.records or intent.job_id in self.foreign
            if intent.job_id and not known:
                self._add({**intent.record, "job_id": intent.job_id}, None)
        mine = [intent for intent in intents if intent.record.get("host") == self.host]
        self.unknown = [intent for intent in mine if not intent.job_id]
        return intents

    def _add(self, record: Record, folder: Path | None) -> None:
        job_id = record["job_id"]
        if folder:
            self.folders[job_id] = folder
        if record.get("host", self.host) != self.host:
            self.foreign[job_id] = record
        else:
            self.records[job_id] = {**self.records.get(job_id, {}), **record}
        for key in prompt_keys(record.get("prompt"), record.get("typed")):
            self._ids_by_prompt.setdefault(key, set()).add(job_id)

    # --- What answers a prompt

    def claim(self, task: Task, *, same_name: bool = False) -> Record | None:
        """Return a record of the task's prompt that answers no other task of this run.

        `same_name`: only one that was made for the task's name too. The earliest that did not fail
        comes first.
        """
        ids = self._ids_of(task) - self.claimed
        found = [self.records[job_id] for job_id in ids if job_id in self.records]
        if same_name:
            found = [record for record in found if (record.get("name") or "") == task.name]
        if task.replaces_failed:
            found = [record for record in found if not recorded_job(record).has_failed]
        found.sort(key=lambda record: (str(record.get("submitted_at")), record["job_id"]))
        found.sort(key=lambda record: recorded_job(record).has_failed)
        self.claimed |= {record["job_id"] for record in found[:1]}
        return found[0] if found else None

    def claim_unknown(self, task: Task) -> Intent | None:
        """Return a submit of the task's prompt whose outcome is unknown, likewise."""
        for intent in self.unknown:
            is_free = intent.path.name not in self.claimed or intent.path == task.intent
            if is_free and is_about(intent.record, task):
                task.intent = intent.path
                self.claimed.add(intent.path.name)
                return intent
        return None

    def foreign_records(self, task: Task) -> list[Record]:
        """Return the records of the task's prompt that are of another host."""
        return [self.foreign[job_id] for job_id in self._ids_of(task) if job_id in self.foreign]

    def _ids_of(self, task: Task) -> set[str]:
        keys = prompt_keys(task.prompt, task.typed)
        return {job_id for key in keys for job_id in self._ids_by_prompt.get(key, ())}

    def settle_intents(self) -> None:
        """Under the lock nobody submits: an intent with an id is a record, any other is unknown.

        Raises Failure `file_error`, OSError.
        """
        for intent in self.read():
            if intent.job_id:
                if intent.job_id not in self.folders:
                    self.add_record({**intent.record, "job_id": intent.job_id, "status": "pending"})
                remove_intent(intent)

    # --- Records

    def add_record(self, record: Record) -> None:
        """Make a folder for a new job. Only under the lock. Raises OSError, Failure."""
        self._add(record, None)  # it is known, even if the disk does not take it
        if self.directory:
            folder = self._make_folder(self.directory, record)
            write_record(folder, record)
            self._add(record, folder)

    def _make_folder(self, directory: Path, record: Record) -> Path:
        job_id, words = record["job_id"], record.get("name") or record.get("prompt") or ""
        words = re.sub(r"https?://\S+", "", re.split(r"\s--[a-z]", words)[0])
        slug = re.sub("[^a-z0-9]+", "-", words.lower())[:SLUG_LENGTH].strip("-") or "job"
        folder = directory / f"{slug}-{job_id[:8]}"
        if folder.exists():
            folder = directory / f"{slug}-{job_id}"
        folder.mkdir(exist_ok=True)
        return folder

    def save(self, record: Record, stop: threading.Event) -> None:
        """Merge what is known of a job into its record, or make one. Raises OSError, Failure."""
        if self.directory is None or self._update(record):
            return
        with self.lock(stop):
            self.settle_intents()
            if not self._update(record):
                self.add_record({**self.records.get(record["job_id"], {}), **record})

    def place_file(self, partial: Path, job_id: str, name: str) -> bool:
        """Move a file into the job's folder; False if there is none any more. Raises OSError."""
        while folder := self.find_folder(job_id):
            try:
                partial.replace(folder / name)
            except FileNotFoundError:
                if not partial.exists():
                    raise
                continue  # the folder was renamed just now: find it again
            self.folders[job_id] = folder
            return True
        return False

    def _update(self, new: Record) -> bool:
        """Merge into the record with this id; say whether there is one. Raises OSError, Failure."""
        while folder := self.find_folder(new["job_id"]):
            with contextlib.suppress(FileNotFoundError):  # renamed just now: find it again
                found = load_record(folder) or {}
                merged = {**found, **new}
                if found and recorded_job(found).is_final and not recorded_job(merged).is_final:
                    merged["status"] = found["status"]  # another run saw more
                if merged != found:
                    write_record(folder, merged)
                self._add(merged, folder)
                return True
        return False

    def find_folder(self, job_id: str) -> Path | None:
        """Return the folder that has this job's record now, None if there is none."""
        known = self.folders.get(job_id)
        if known and has_record(known, job_id):
            return known
        if self.directory is None:
            return None
        folders, _ = list_directory(self.directory)
        paths = (self.directory / name for name, _ in sorted(folders))
        return next((path for path in paths if has_record(path, job_id)), None)
