"""Files that are whole or not there, that are read only where they are files, and that can be locked.

An agent's host may end the process between any two lines, so a file gets its name last. Two runs may share a
directory, so whatever decides about money is held by a lock of the operating system, which goes with its
process however that ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import time
from errno import EACCES, EAGAIN, EINVAL, ENOENT
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from legnext.picture import TAIL

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PART = ".part"
_OURS = re.compile(rf"\..+\.[0-9a-f]{{12}}\{PART}")  # what `partial_beside` makes, and no other program's
# Younger ones may be another run's; an image is given up after two minutes.
PART_SECONDS = 3600.0
# A record is a few KB. The largest answer that is taken (4 MB) makes one of four times that, all escapes.
MOST_BYTES = 16_000_000
# How long a file that another program has open is waited for, where the system locks it (Windows).
BUSY_SECONDS = 5.0

_unfinished: set[Path] = set()
_unfinished_lock = Lock()


@contextlib.contextmanager
def partial_beside(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for what is not whole yet; whatever happens, no file of it is left."""
    partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}{PART}")
    mark_unfinished(partial)
    try:
        yield partial
    finally:
        with _unfinished_lock:
            _unfinished.discard(partial)
            remove(partial)


def mark_unfinished(path: Path) -> None:
    """Take `path` for one that a stopped run must not leave behind."""
    with _unfinished_lock:
        _unfinished.add(path)


def mark_finished(path: Path) -> None:
    """Let `path` stay, whatever happens now."""
    with _unfinished_lock:
        _unfinished.discard(path)


def open_partial(partial: Path) -> BinaryIO:
    """Open a name from `partial_beside`, unless it was given up since. Raises OSError."""
    with _unfinished_lock:
        if partial not in _unfinished:
            raise FileNotFoundError(ENOENT, "given up", str(partial))
        return partial.open("wb")


def give_up() -> None:
    """Remove what is not whole yet, and let nothing more be begun: the run is being stopped."""
    # The lock is kept, so nothing is begun after; but a disk that hangs must not hold up the end.
    if _unfinished_lock.acquire(timeout=0.5):
        for path in _unfinished:
            remove(path)


def remove(path: Path) -> None:
    """Remove `path` if it is there and can be."""
    with contextlib.suppress(OSError):  # on Windows it may be open still; nothing more can be done here
        path.unlink(missing_ok=True)


def replace(partial: Path, path: Path) -> Path:
    """Give `partial` its name. Raises OSError.

    Windows refuses while a viewer or an indexer has the file of that name open: it is tried again for
    BUSY_SECONDS, and then the error names the file that is held.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return partial.replace(path)
        except PermissionError:
            if os.name != "nt":
                raise
            if time.monotonic() >= until:
                words = "read-only, or open in another program, which has to be closed first"
                raise PermissionError(EACCES, words, str(path)) from None
        time.sleep(0.05)


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `path` whole or not at all, and onto the disk. Raises OSError."""
    with partial_beside(path) as partial:
        with open_partial(partial) as file:
            write_out(file, pieces)
        replace(partial, path)


def write_out(file: BinaryIO, pieces: Iterable[bytes]) -> None:
    """Write it all and wait until the disk has it. Raises OSError."""
    file.writelines(pieces)
    file.flush()
    os.fsync(file.fileno())


def sweep(directory: Path) -> None:
    """Remove the partial files in `directory` that a killed run has left more than an hour ago."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name) and _is_old(entry):
                remove(Path(entry.path))


def _is_old(entry: os.DirEntry[str]) -> bool:
    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
    return age > PART_SECONDS and entry.is_file(follow_symlinks=False)


def open_regular(path: str) -> int:
    """Open `path` for reading and return its descriptor. Raises OSError, also where it is no regular file.

    A FIFO of that name would block for ever, also after a job was paid for.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(EINVAL, "not a regular file", path)


def read_regular(path: str) -> bytes:
    """Return the content of a regular file of at most MOST_BYTES. Raises OSError."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > MOST_BYTES:
            raise OSError(EINVAL, f"larger than {MOST_BYTES} bytes", path)
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def ends_of(path: str | Path, start: int = 12) -> tuple[bytes, bytes, int]:
    """Return the first `start` bytes of a file, its last few (TAIL), and its size. Raises OSError."""
    descriptor = open_regular(os.fspath(path))
    try:
        head = os.read(descriptor, start)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.lseek(descriptor, max(0, size - TAIL), os.SEEK_SET)
        return head, os.read(descriptor, TAIL), size
    finally:
        os.close(descriptor)


# --- Locks ------------------------------------------------------------------------------------------------

# On Windows nobody else can read what is locked: one byte far behind the end leaves the content readable.
_LOCKED_BYTE = 1 << 30


class NoLocks(OSError):  # noqa: N818 - a state of affairs
    """The file system knows no locks."""


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file without waiting; say whether it was free.

    It belongs to the descriptor: a second one of the same process is refused too. It goes with its closing or
    with its process, however that ends. Raises NoLocks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)  # else the next write lands there
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if sys.platform == "win32" or error.errno in (EACCES, EAGAIN):
            return False
        raise NoLocks(error.errno, error.strerror) from None
    return True
