"""Whose file is it? Who writes one holds its lock (``flock``), which the system lets go of when
the process dies, however it dies: what can be locked is abandoned, and anyone may clear it up."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def if_abandoned(path: Path) -> Iterator[bool]:
    """Gives whether the file is there and nobody holds it; it is then held while the block runs."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False  # Its owner has done with it since it was listed.
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield path.exists()
