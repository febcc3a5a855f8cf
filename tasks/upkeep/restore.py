"""Restoration of a backup: checked and unpacked beside the store, then moved to its place.

The content of a store is replaced on request only, and kept in ``set-aside``. The list of forgotten
users is merged with that of the backup, so that no user on it is restored.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from artifacts.files.durable import sync, sync_tree, write_atomically
from artifacts.files.leftovers import BEFORE_RESTORE, RESTORING, SET_ASIDE, UNPACKED
from artifacts.files.private_files import keep_private
from artifacts.forgotten import LIST, join_list
from artifacts.leases import cleaning
from artifacts.machines.store_in_use import refuse_in_use
from artifacts.manifest import Kind
from artifacts.store import POINTERS, Store
from artifacts.store_notes import FOLDER as NOTES
from artifacts.user_error import UserError
from tasks.upkeep.backup import DATABASE, LEASES, LEDGER, listed
from tasks.upkeep.backup_file import About, BackupDamagedError, about_of, read_backup

WORK = "work"
FOLDERS = (*map(str, Kind), LEDGER, POINTERS)
"""Folders of a store that a restore replaces as a whole."""

OF_PREFECT = frozenset({DATABASE, f"{LEASES}/"})
PARTS = OF_PREFECT | {f"{name}/" for name in (*FOLDERS, NOTES)}
"""Names of files and folders in a backup."""


class RestoreRefusedError(UserError):
    """The store has content that a backup would replace, or is of another kind."""


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
    return read_backup(path, None, _parts(about_of(path)), on_bytes)


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
        RestoreRefusedError: not into this store.
        StoreInUseError: a run uses the store.
        UserKeyError: its list of forgotten users cannot be joined with that of the store.
    """
    about = about_of(path)
    if about.is_remote != (store.remote is not None):
        raise RestoreRefusedError(
            f"{path} is of {about.store}, and {store.root} is "
            f"{'a folder' if about.is_remote else 'a remote store'}; name another by --store"
        )
    keep_private(store.local)
    with cleaning(store.local):
        refuse_in_use(store, "restore")
        if not replace and (held := next(_content(store), None)):
            raise RestoreRefusedError(
                f"{store.root} is not empty (it has {held.relative_to(store.local)}); restore into "
                "a new folder by --store, or set its content aside by --replace"
            )
        for left in (store.local / WORK).glob(f"{UNPACKED}*"):
            shutil.rmtree(left)  # Its restore was killed.
        new = store.local / WORK / f"{UNPACKED}{uuid.uuid4().hex}"
        new.mkdir()
        try:
            files = read_backup(path, new, _parts(about), on_bytes)
            sync_tree(new)
            is_due = store.remote is None and _join_list(store, new / NOTES, path)
            aside = _take_place(new, store)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        keep_private(store.local, again=True)
    return Restored(about, files, (store.local / DATABASE).exists(), aside, is_due)


def _parts(about: About) -> frozenset[str]:
    return OF_PREFECT if about.is_remote else PARTS


def _join_list(store: Store, notes: Path, path: Path) -> bool:
    try:
        return join_list(store, notes)
    except ValidationError as error:
        raise BackupDamagedError(
            f"the list of forgotten users in {path}, or that of {store.root}, is unreadable"
        ) from error


def _take_place(new: Path, store: Store) -> Path | None:
    """Moves files to their places; returns the folder of the former content. An error undoes the
    moves; after a kill, runs are refused until the restore is repeated."""
    root = store.local
    mark = root / WORK / RESTORING
    was_marked = mark.exists()
    write_atomically(mark, b"")
    name = f"{BEFORE_RESTORE}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    aside = root / SET_ASIDE / name
    has_prefect = (new / DATABASE).exists()
    moves = [
        (root / place, aside / place)
        for place in _places(root, store)
        if has_prefect or place.parts[0] != WORK
    ]
    moves += [(new / place, root / place) for place in _places(new, store)]
    with ExitStack() as back:
        for source, target in moves:
            try:
                _move(source, target)
            except OSError:
                back.close()
                shutil.rmtree(aside, ignore_errors=True)  # Empty folders.
                if not was_marked:
                    mark.unlink()
                raise
            back.callback(_move, target, source)
        back.pop_all()
    for folder in {target.parent for _, target in moves}:
        sync(folder)
    mark.unlink()
    sync(mark.parent)
    if not aside.exists():
        return None
    os.utime(aside)  # The retention period starts now.
    return aside


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _places(root: Path, store: Store) -> Iterator[Path]:
    """Yields the files and folders that a backup replaces, relative to ``root``; of a remote store
    those of Prefect, not the copies and answers of this machine."""
    if store.remote is None:
        for name in FOLDERS:
            yield from _existing(root, name)
        yield from _existing(root, f"{NOTES}/*", but=LIST)
    yield from _existing(root, f"{DATABASE}*")
    yield from _existing(root, LEASES)


def _existing(root: Path, pattern: str, but: str = "") -> Iterator[Path]:
    yield from (path.relative_to(root) for path in sorted(root.glob(pattern)) if path.name != but)


def _content(store: Store) -> Iterator[Path]:
    """Yields the files that a backup would replace."""
    for place in _places(store.local, store):
        path = store.local / place
        yield from listed(path) if path.is_dir() else [path]
