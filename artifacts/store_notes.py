"""Small files that the operating side keeps in a store, beside the artifacts: what was released,
which dumps were seen. Unlike artifacts they change; unlike workspaces they follow a remote store.
"""

from pathlib import Path

import fsspec

from artifacts.store import Store, write_atomically

FOLDER = "operation"


def read_note(store: Store, name: str) -> bytes | None:
    """Returns a note's content, or None where it was never written."""
    if "://" not in store.root:
        path = _local(store, name)
        return path.read_bytes() if path.exists() else None
    filesystem, root = fsspec.core.url_to_fs(store.root)
    path = f"{root}/{FOLDER}/{name}"
    return bytes(filesystem.cat_file(path)) if filesystem.exists(path) else None


def write_note(store: Store, name: str, content: bytes) -> None:
    """Replaces a note: a reader sees the old content or the new."""
    if "://" not in store.root:
        path = _local(store, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        return
    filesystem, root = fsspec.core.url_to_fs(store.root)
    filesystem.makedirs(f"{root}/{FOLDER}", exist_ok=True)
    filesystem.pipe_file(f"{root}/{FOLDER}/{name}", content)


def _local(store: Store, name: str) -> Path:
    return Path(store.root) / FOLDER / name
