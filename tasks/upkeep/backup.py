"""Backup of a store, and of the Prefect database of its machine, to one file; safe beside runs.

A lease on every artifact keeps clean-up and removals of users away, a lock keeps compaction from
the ledger; on a read-only disk nothing changes, and both are left out. Decisions and pointers are
copied before the artifacts that they name. Checkpoints, copies of dumps, logs and the login of the
Prefect server are left out.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from artifacts.integrity import ArtifactCorruptError, ArtifactMissingError, ArtifactNewerError
from artifacts.leases import note_use
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import Ledger
from artifacts.machines.store_in_use import refuse_interrupted, store_in_use
from artifacts.manifest import MANIFEST, ArtifactRef, Kind
from artifacts.store import POINTERS, Store
from artifacts.store_notes import FOLDER as NOTES
from tasks.upkeep.backup_file import PARTIAL, About, BackupWriter, new_backup

LEDGER = "ledger"
PREFECT = "work/machine/prefect"
"""Folder of the Prefect server of `llm4cdsr up`."""

DATABASE = f"{PREFECT}/prefect.db"
LEASES = f"{PREFECT}/concurrency_leases"
"""Places in Prefect's limits of concurrent runs; without them the database counts dead runs."""


@dataclass(frozen=True)
class BackedUp:
    """A finished backup. ``damaged``: sentences about artifacts that are not in it."""

    about: About
    files: int
    bytes: int
    artifacts: int
    has_prefect: bool
    damaged: tuple[str, ...]


def back_up(store: Store, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> BackedUp:
    """Writes a backup to ``path``, replacing it when complete. Of a remote store, Prefect's
    database only.

    Raises:
        InterruptedRemovalError, InterruptedRestoreError: the store's parts do not fit together.
    """
    about = About(
        made=datetime.now(UTC),
        program=version("llm4cdsr"),
        store=store.root,
        is_remote=store.remote is not None,
    )
    artifacts, damaged = 0, list[str]()
    is_fixed = is_read_only(store.local)
    with (
        _unchanging(store) if is_fixed else store_in_use(store),
        new_backup(path, about, on_bytes) as backup,
    ):
        has_prefect = _add_prefect(backup, store.local, path.parent)
        if store.remote is None:
            for folder in (NOTES, POINTERS):
                _add_all(backup, store.local, folder)
            _add_ledger(backup, store.local, is_fixed=is_fixed)
            for ref in _artifacts(store):
                try:
                    artifacts += _add_artifact(backup, store, ref)
                except ArtifactCorruptError as error:
                    damaged.append(str(error))
    files = len(backup.sums) - 2  # Without those of the archive itself.
    return BackedUp(about, files, backup.size, artifacts, has_prefect, tuple(damaged))


def size_of(store: Store) -> int:
    """Returns the approximate number of bytes that `back_up` reads."""
    folders = (PREFECT,) if store.remote is not None else (PREFECT, NOTES, POINTERS, LEDGER, *Kind)
    size = 0
    for path in (path for folder in folders for path in listed(store.local / folder)):
        with suppress(FileNotFoundError):  # Moved in the meantime.
            size += path.stat().st_size
    return size


def listed(folder: Path) -> list[Path]:
    """Returns the regular files below a folder, without temporary files and locks, by name."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not _is_temporary(path.relative_to(folder)))


def _is_temporary(path: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.parts)
    return is_hidden or path.suffix in (".tmp", ".new", ".lock")


def _add_all(backup: BackupWriter, root: Path, folder: str) -> None:
    """Adds a folder's files. A file that vanishes has moved to one that is listed next: a journal
    to a part of the ledger, single decisions to an archive."""
    added = set[Path]()
    while new := [path for path in listed(root / folder) if path not in added]:
        for path in new:
            backup.add(path, path.relative_to(root).as_posix())
        added.update(new)


def is_read_only(folder: Path) -> bool:
    """Returns whether a folder is on a disk that is mounted read-only, also after a fault."""
    return folder.exists() and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


@contextmanager
def _unchanging(store: Store) -> Iterator[None]:
    """As `store_in_use`, without its locks, which a read-only disk cannot have."""
    refuse_interrupted(store)
    yield


def _add_ledger(backup: BackupWriter, root: Path, *, is_fixed: bool) -> None:
    with ExitStack() as unchanged:
        for role in () if is_fixed else Role:
            unchanged.enter_context(Ledger(root, role).reading())
        _add_all(backup, root, LEDGER)


def _artifacts(store: Store) -> list[ArtifactRef]:
    """Returns the artifacts of a store, parents first."""
    ages = dict[ArtifactRef, float]()
    for kind in Kind:
        for path in (store.local / kind).glob(f"[!.]*/{MANIFEST}"):
            with suppress(FileNotFoundError):  # Deleted in the meantime.
                ref = ArtifactRef(kind=kind, fingerprint=path.parent.name)
                ages[ref] = path.stat().st_mtime
    return sorted(ages, key=lambda ref: ages[ref])


def _add_artifact(backup: BackupWriter, store: Store, ref: ArtifactRef) -> bool:
    """Adds an artifact, unless it was deleted in the meantime; raises `ArtifactCorruptError`."""
    note_use(store.local, str(ref))
    try:
        store.verify(ref)
    except ArtifactNewerError:
        """Copied unread: it is sound for a newer program."""
    except ArtifactMissingError:
        return False
    _add_all(backup, store.local, str(ref))
    return True


def _add_prefect(backup: BackupWriter, root: Path, beside: Path) -> bool:
    """Adds Prefect's database, as of one moment, also while the server writes to it."""
    database = root / DATABASE
    if not database.is_file():
        return False
    _add_all(backup, root, LEASES)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=beside) as folder:
        copy = Path(folder, database.name)
        if is_read_only(root):
            # SQLite writes beside a database to read it; the copy has its journal too.
            source_file = Path(folder, f"source-{database.name}")
            for ending in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{database}{ending}", f"{source_file}{ending}")
        else:
            source_file = database
        with (
            closing(sqlite3.connect(source_file)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        backup.add(copy, DATABASE)
    return True
