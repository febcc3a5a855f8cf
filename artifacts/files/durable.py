"""Durable file operations: content is on disk before its name.

A file's content and its folder entry are written back independently: without fsync of both, a
rename may be on disk without the content.
"""

import os
import shutil
import uuid
from pathlib import Path


def sync(path: Path) -> None:
    """Syncs a file's content, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Syncs every file and folder below ``folder``, and its own entries, to disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file atomically, also under a crash."""
    partial = _written_beside(path, content)
    partial.replace(path)
    sync(path.parent)


def copy_atomically(source: Path, path: Path) -> None:
    """Copies a file's content, replacing ``path`` atomically, also under a crash."""
    partial = _beside(path)
    try:
        shutil.copyfile(source, partial)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def create_exclusively(path: Path, content: bytes) -> None:
    """Creates a file with its content atomically.

    Raises:
        FileExistsError: the file exists; it is not changed.
    """
    partial = _written_beside(path, content)
    try:
        # A rename would replace an existing file; a link fails, on NFS too.
        path.hardlink_to(partial)
    finally:
        partial.unlink()
    sync(path.parent)


def _written_beside(path: Path, content: bytes) -> Path:
    partial = _beside(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # On a full disk, what writes every minute would leave a part every minute.
        partial.unlink(missing_ok=True)
        raise
    return partial


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
