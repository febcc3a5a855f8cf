"""Restoration of a backup: checked and unpacked beside the store, then moved to its place.

A store with content is replaced on request only, and set aside. The list of forgotten users is
joined with that of the backup, so that no user on it comes back.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from artifacts.files.durable import sync, sync_tree, write_atomically
from artifacts.files.leftovers import RESTORING, SET_ASIDE, UNPACKED
from artifacts.files.private_files import keep_private
from artifacts.forgotten import LIST, join_list
from artifacts.leases import cleaning
from artifacts.machines.store_in_use import refuse_in_use
from artifacts.manifest import Kind
from artifacts.store import POINTERS, Store
from artifacts.store_notes import FOLDER as NOTES
from artifacts.user_error import UserError
from tasks.upkeep.backup import DATABASE, LEASES, LEDGER, listed
from tasks.upkeep.backup_file import About, about_of, read_backup

WORK = "work"
PARTS = frozenset({*Kind, LEDGER, NOTES, POINTERS, WORK})
"""Folders of a store with files of a backup."""


class StoreNotEmptyError(UserError):
    """A backup would replace the content of a store."""


class OtherKindOfStoreError(UserError):
    """A backup of a folder for a remote store, or the reverse."""


@dataclass(frozen=True)
class Restored:
    """A finished restore. ``aside``: folder of the former content, None without any; ``is_due``:
    a removal of users must be completed, until then runs are refused."""

    about: About
    files: int
    has_prefect: bool
    aside: Path | None
    is_due: bool


def check_backup(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> int:
    """Checks every file of a backup; returns their number. Raises as `restore`."""
    about_of(path)
    return read_backup(path, None, PARTS, on_bytes)


def restore(
    store: Store,
    path: Path,
    *,
    replace: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Restored:
    """Restores a backup into a store; new runs wait for its end. Nothing is changed on an error.

    Args:
        store: local; of a remote one, Prefect's database on this machine is restored.
        path: the backup.
        replace: whether to set aside what the store has.
        on_bytes: called with the number of bytes of each block read.

    Raises:
        NoBackupError, BackupDamagedError: it cannot be restored.
        OtherKindOfStoreError, StoreNotEmptyError: not into this store.
        StoreInUseError: a run uses the store.
        UserKeyError: its list of forgotten users cannot be joined with that of the store.
    """
    about = about_of(path)
    if about.is_remote != (store.remote is not None):
        raise OtherKindOfStoreError(
            f"{path} is of {about.store}, and {store.root} is "
            f"{'a folder' if about.is_remote else 'a remote store'}; name another by --store"
        )
    keep_private(store.local)
    with cleaning(store.local):
        refuse_in_use(store, "restore")
        if not replace and (held := next(_content(store.local), None)):
            raise StoreNotEmptyError(
                f"{store.root} is not empty (it has {held.relative_to(store.local)}); restore into "
                "a new folder by --store, or set its content aside by --replace"
            )
        new = store.local / WORK / f"{UNPACKED}{uuid.uuid4().hex}"
        new.mkdir()
        try:
            files = read_backup(path, new, PARTS, on_bytes)
            sync_tree(new)
            is_due = store.remote is None and join_list(store, new / NOTES)
            aside = _take_place(new, store.local)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        keep_private(store.local, again=True)
    return Restored(about, files, (store.local / DATABASE).exists(), aside, is_due)


def _take_place(new: Path, root: Path) -> Path | None:
    """Moves files to their places; returns the folder of what was there. A kill leaves a mark that
    runs refuse."""
    mark = root / WORK / RESTORING
    write_atomically(mark, b"")
    aside = root / SET_ASIDE / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    has_prefect = (new / DATABASE).exists()
    for place in list(_places(root)):
        if has_prefect or place.parts[0] != WORK:
            _move(root / place, aside / place)
    for place in list(_places(new)):
        _move(new / place, root / place)
    mark.unlink()
    sync(root)
    if not aside.exists():
        return None
    os.utime(aside)  # The retention period starts now.
    return aside


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _places(root: Path) -> Iterator[Path]:
    """Yields the files and folders that a backup replaces, relative to a store's root."""
    for name in (*map(str, Kind), LEDGER, POINTERS):
        yield from _existing(root, name)
    yield from _existing(root, f"{NOTES}/*", but=LIST)
    yield from _existing(root, f"{DATABASE}*")
    yield from _existing(root, LEASES)


def _existing(root: Path, pattern: str, but: str = "") -> Iterator[Path]:
    yield from (path.relative_to(root) for path in sorted(root.glob(pattern)) if path.name != but)


def _content(root: Path) -> Iterator[Path]:
    """Yields the files that a backup would replace."""
    for place in _places(root):
        path = root / place
        yield from listed(path) if path.is_dir() else [path]
