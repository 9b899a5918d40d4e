"""The files of an output directory, read and written whole.

- A record is any DIR/*/job.json with a job_id: people rename the folders.
- An intent is DIR/submit-<nonce>.json, written before a submit is sent, with blanks for the id.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from legnext.errors import Failure
from legnext.job import is_job_id, load_json, mapping
from legnext.task import Record

INTENT = re.compile(r"submit-[0-9a-f]{16}\.json")
BLANKS = 256  # more than the longest job id


@dataclass
class Intent:
    """A submit that was about to be sent."""

    path: Path
    record: Record  # with a job_id once it is known
    file: BinaryIO | None = None  # open while the submit is out


def damaged(path: Path, why: object) -> Failure:
    fix = "can be read" if isinstance(why, OSError) else "is repaired or deleted"
    hint = f"Nothing is bought until {path} {fix}: it may be about a paid job."
    return Failure("file_error", f"{path} cannot be read: {why}", hint=hint)


def load_record(folder: Path) -> Record | None:
    """Return a folder's record, None if it has none. Raises Failure if it is damaged."""
    path, content = folder / "job.json", b""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None  # reading a pipe would hang
        content = path.read_bytes()
        record = load_json(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise damaged(path, error) from None
    except (ValueError, RecursionError):
        if b"job_id" in content or not content.strip(b"\0"):  # a full disk left it empty
            raise damaged(path, "not JSON") from None
        return None
    # Valid JSON without a job_id is another program's.
    return record if is_job_id(mapping(record).get("job_id")) else None


def has_record(folder: Path, job_id: str) -> bool:
    with contextlib.suppress(Failure):  # damaged
        return (load_record(folder) or {}).get("job_id") == job_id
    return False


def load_intent(path: Path) -> Intent | None:
    """Return a file's intent, None if it is gone or empty. Raises as `load_record`."""
    try:
        line, _, answer = path.read_text(encoding="utf-8").partition("\n")
        job_id, newline, _ = answer.partition("\n")  # without the newline it may be half an id
        known = {"job_id": job_id, "status": "pending"} if newline and is_job_id(job_id) else {}
        record = {**json.loads(line), **known} if line else {}
        texts = [record.get(name, "") for name in ("prompt", "typed", "name")]
        if not all(isinstance(t, str) for t in texts) or not is_job_id(record.get("job_id", "0")):
            raise ValueError("edited by hand")
        return Intent(path, record) if line else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from None


def list_directory(directory: Path) -> tuple[set[tuple[str, int]], list[str]]:
    """Return (name, inode) of folders that may be jobs', and intents' names. Raises Failure."""
    folders: set[tuple[str, int]] = set()
    intents: list[str] = []
    try:
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                if INTENT.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    intents.append(entry.name)
                elif not re.match(r"\.|lost\+found$", entry.name) and entry.is_dir():
                    folders.add((entry.name, entry.inode()))
    except OSError as error:
        raise Failure("file_error", f"{directory} cannot be read: {error}") from None
    return folders, sorted(intents)


def write_whole(path: Path, pieces: Iterable[bytes], job_id: str = "") -> None:
    """Write a file whole, a record only into its own folder. Raises OSError, Failure."""
    partial = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # it has no fsync
                    raise
        found = load_record(path.parent) if job_id else None
        if found and found["job_id"] != job_id:
            raise FileNotFoundError(2, "now another job's folder", str(path))
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_record(folder: Path, record: Record) -> None:
    """Write a job.json, the id first: a damaged one still shows whose it is."""
    record = {"job_id": record["job_id"], **record}
    write_whole(folder / "job.json", [json.dumps(record, indent=1).encode()], record["job_id"])


def write_intent(directory: Path, record: Record) -> Intent:
    intent = Intent(directory / f"submit-{record['nonce']}.json", record)
    write_whole(intent.path, [json.dumps(record).encode(), b"\n", b" " * BLANKS])
    try:
        intent.file = intent.path.open("r+b", buffering=0)
    except OSError:
        remove_intent(intent)
        raise
    return intent


def note_job_id(intent: Intent, job_id: str) -> None:
    """Write the id into the intent's blanks: a full disk cannot lose it."""
    with contextlib.suppress(OSError):  # then the record will have it
        if intent.file:
            intent.file.seek(-BLANKS, os.SEEK_END)
            intent.file.write(job_id.encode() + b"\n")
            os.fsync(intent.file.fileno())


def remove_intent(intent: Intent) -> None:
    """Delete a settled intent; one that stays is settled again later."""
    with contextlib.suppress(OSError):
        if intent.file:
            intent.file.close()  # Windows deletes no open file
        try:
            intent.path.unlink()
        except PermissionError:  # it is being read, on Windows: emptied, it says "nothing sent"
            os.truncate(intent.path, 0)
