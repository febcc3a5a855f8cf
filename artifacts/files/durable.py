"""Files that survive a power failure: content reaches the disk before the name does.

A file's content and its entry in a folder are written back independently: without an fsync of
both, a rename may outlive the bytes that it names.
"""

import os
import uuid
from pathlib import Path


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Waits until every file and folder below ``folder``, and its own entries, are on disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file so that a reader, or a crash, sees the old content or the new."""
    partial = _written_beside(path, content)
    partial.replace(path)
    sync(path.parent)


def create_exclusively(path: Path, content: bytes) -> None:
    """Creates a file with all of its content at once.

    Raises:
        FileExistsError: another writer was first; its content stays.
    """
    partial = _written_beside(path, content)
    try:
        # A rename would replace; a link fails where the name is taken, on NFS too.
        path.hardlink_to(partial)
    finally:
        partial.unlink()
    sync(path.parent)


def _written_beside(path: Path, content: bytes) -> Path:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return partial
