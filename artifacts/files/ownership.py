"""File locks: one process at a time, and files whose process is dead.

A process that writes a file holds its lock (``flock``), which the system releases when the process
dies, in whichever way. A file that can be locked is therefore abandoned, and any process may delete
it.

Every file is opened for reading and writing: NFSv4 grants ``LOCK_SH`` only on a readable file
descriptor, ``LOCK_EX`` only on a writable one, and fails with EBADF otherwise.
"""

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.2
"""Seconds between two tries for a lock within a time."""


def opened_locked(path: Path) -> BinaryIO:
    """Returns an existing file, open and locked for this process until it is closed."""
    file = path.open("r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def locked(path: Path, mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds a lock (``fcntl.LOCK_SH`` or ``LOCK_EX``) on a file, created if missing, for a block.

    On a read-only disk, where no process writes, nothing is locked for ``LOCK_SH``.
    """
    opened: AbstractContextManager[BinaryIO | None]
    try:
        opened = path.open("a+b")
    except OSError as error:
        if error.errno != errno.EROFS or mode != fcntl.LOCK_SH:
            raise
        opened = nullcontext()
    # Outside of `except`, where the read-only disk would be the context of the block's errors.
    with opened as file:
        if file is not None:
            fcntl.flock(file, mode)
        yield


@contextmanager
def locked_within(path: Path, seconds: float) -> Iterator[bool]:
    """Yields whether the file, created if missing, was locked within ``seconds``; if so, it is
    locked during the block.

    For processes that can continue without the lock: a suspended holder never releases it.
    """
    ends = time.monotonic() + seconds
    with path.open("a+b") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= ends:
                    yield False
                    return
                time.sleep(POLL_SECONDS)
            else:
                yield True
                return


@contextmanager
def if_abandoned(path: Path) -> Iterator[bool]:
    """Yields whether the file exists and is unlocked; it is then locked during the block.

    A file that this process may not write belongs to another user, whose processes delete it. A
    folder is no file.
    """
    try:
        file = path.open("r+b")
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        yield False  # A missing file was deleted by its owner after it was listed.
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield path.exists()
