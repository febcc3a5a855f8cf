"""Notes: small mutable files of a store for operation, such as promotion decisions and seen dumps.
Unlike work folders they are stored remotely for a remote store."""

import uuid
from pathlib import Path

from artifacts.files.durable import create_exclusively, write_atomically
from artifacts.files.private_files import keep_private
from artifacts.store import Store
from artifacts.user_error import UserError

FOLDER = "operation"
_STORE_ID = "store-id"


class NoteDamagedError(UserError):
    """A note has invalid content, or is no file."""


def read_note(store: Store, name: str) -> bytes | None:
    """Returns a note's content, None if it does not exist.

    Raises:
        NoteDamagedError: a folder has its name.
    """
    if store.remote is not None:
        return store.remote.read(FOLDER, *name.split("/"))
    path = store.local / FOLDER / name
    try:
        return path.read_bytes() if path.exists() else None
    except IsADirectoryError:
        raise NoteDamagedError(
            f"{path} is a folder in place of a file; move it out of the store, or restore the file "
            "from a backup, and run this again"
        ) from None


def write_note(store: Store, name: str, content: bytes) -> None:
    """Replaces a note atomically."""
    if store.remote is not None:
        store.remote.write(content, FOLDER, *name.split("/"))
        return
    write_atomically(_new_path(store, name), content)


def create_note(store: Store, name: str, content: bytes) -> None:
    """Creates a note; of concurrent writers on any machine, one succeeds.

    Raises:
        FileExistsError: it exists.
    """
    if store.remote is not None:
        store.remote.create(content, FOLDER, *name.split("/"))
        return
    create_exclusively(_new_path(store, name), content)


def note_names(store: Store, folder: str) -> list[str]:
    """Returns the names of the notes in a folder of notes, sorted."""
    if store.remote is not None:
        return store.remote.names(FOLDER, folder)
    place = store.local / FOLDER / folder
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


def delete_note(store: Store, name: str) -> None:
    """Deletes a note, if it exists."""
    if store.remote is not None:
        store.remote.delete(FOLDER, *name.split("/"))
    (store.local / FOLDER / name).unlink(missing_ok=True)


def store_id(store: Store) -> str:
    """Returns the permanent id of this store, independent of its path."""
    while True:
        known = read_note(store, _STORE_ID)
        if known is not None:
            return known.decode()
        try:
            create_note(store, _STORE_ID, uuid.uuid4().hex.encode())
        except FileExistsError:
            continue


def _new_path(store: Store, name: str) -> Path:
    """Returns the path of a note of a local store, in an existing folder."""
    keep_private(store.local)
    path = store.local / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
