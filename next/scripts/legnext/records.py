"""The files of an output directory: records of jobs and intents of submits, read and written whole.

- A record is any DIR/*/job.json with a job_id, whatever its folder is called: people rename them.
- An intent is DIR/submit-<nonce>.json, written before a submit is sent. The job's id is written
  into blanks that it already has, so that a full disk cannot lose it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from legnext.errors import Failure
from legnext.job import is_job_id
from legnext.task import Record

INTENT = re.compile(r"submit-[0-9a-f]{16}\.json")  # no other file is taken for one
BLANKS = 256  # more than the longest job id


@dataclass(frozen=True)
class Intent:
    """A submit that was about to be sent, as its file has it. `job_id` is "" until it is known."""

    path: Path
    record: Record
    job_id: str = ""
    file: BinaryIO | None = None  # kept open while the submit is out


def prompt_keys(*prompts: object) -> set[str]:
    """Return what a record is found by: its prompts, with runs of blanks as one."""
    return {" ".join(prompt.split()) for prompt in prompts if prompt and isinstance(prompt, str)}


# --- Reading


def damaged(path: Path, why: object) -> Failure:
    """Return the Failure for a file that may be about a paid job but cannot be read."""
    hint = f"Nothing is bought until {path} is repaired or deleted: it may be about a paid job."
    return Failure("file_error", f"{path} cannot be read: {why}", hint=hint)


def load_record(folder: Path) -> Record | None:
    """Return the record in a folder, None if it has none. Raises Failure `file_error`.

    One that is damaged may be a paid job. Valid JSON without a job_id is another program's.
    """
    path, content = folder / "job.json", b""
    try:
        content = path.read_bytes() if path.is_file() else b""  # reading a pipe would hang
        record = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise damaged(path, error) from None
    except (ValueError, RecursionError):
        if b"job_id" in content:
            raise damaged(path, "not JSON") from None
        return None
    return record if isinstance(record, dict) and is_job_id(record.get("job_id")) else None


def has_record(folder: Path, job_id: str) -> bool:
    """Say whether a folder has this job's record."""
    with contextlib.suppress(Failure):  # damaged
        return (load_record(folder) or {}).get("job_id") == job_id
    return False


def load_intent(path: Path) -> Intent | None:
    """Return the intent in a file, None if it is gone or emptied. Raises Failure `file_error`."""
    try:
        line, _, answer = path.read_text(encoding="utf-8").partition("\n")
        job_id, newline, _ = answer.partition("\n")
        known = newline and is_job_id(job_id)  # without the newline it may be half an id
        return Intent(path, dict(json.loads(line)), job_id if known else "") if line else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise damaged(path, error) from None


def list_directory(directory: Path) -> tuple[set[tuple[str, int]], list[str]]:
    """Return (name, inode) of all that may be a job's folder, and the names of the intents.

    Raises Failure `file_error`.
    """
    folders: set[tuple[str, int]] = set()
    intents: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if INTENT.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    intents.append(entry.name)
                elif not entry.name.startswith(".") and entry.is_dir():
                    folders.add((entry.name, entry.inode()))
    except FileNotFoundError:
        pass  # it is made when it is needed
    except OSError as error:
        raise Failure("file_error", f"{directory} cannot be read: {error}") from None
    return folders, sorted(intents)


# --- Writing


def write_whole(path: Path, content: bytes, job_id: str = "") -> None:
    """Write a file whole or not at all, a record only into its own job's folder. Raises OSError."""
    partial = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            with contextlib.suppress(OSError):  # EINVAL on file systems that have no fsync
                os.fsync(file.fileno())
        found = load_record(path.parent) if job_id else None
        if found and found["job_id"] != job_id:
            raise FileNotFoundError(2, "this is another job's folder by now", str(path))
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_record(folder: Path, record: Record) -> None:
    """Write a job.json. Its id comes first: a damaged one still shows whose it is."""
    record = {"job_id": record["job_id"], **record}
    write_whole(folder / "job.json", json.dumps(record, indent=1).encode(), record["job_id"])


def write_intent(directory: Path, record: Record) -> Intent:
    """Write down what is about to be bought. Raises OSError."""
    intent = Intent(directory / f"submit-{record['nonce']}.json", record)
    write_whole(intent.path, json.dumps(record).encode() + b"\n" + b" " * BLANKS)
    try:
        return replace(intent, file=intent.path.open("r+b", buffering=0))
    except OSError:
        remove_intent(intent)
        raise


def note_job_id(intent: Intent, job_id: str) -> None:
    """Write the id into the blanks of the intent, at once and without more space."""
    with contextlib.suppress(OSError):  # then the record will have it
        if intent.file:
            intent.file.seek(-BLANKS, os.SEEK_END)
            intent.file.write(job_id.encode() + b"\n")
            os.fsync(intent.file.fileno())


def remove_intent(intent: Intent) -> None:
    """Delete an intent that is settled; one that stays is settled again later."""
    with contextlib.suppress(OSError):
        if intent.file:
            intent.file.close()  # Windows deletes no open file
        try:
            intent.path.unlink()
        except PermissionError:  # somebody reads it, on Windows: emptied, it says "nothing sent"
            os.truncate(intent.path, 0)
