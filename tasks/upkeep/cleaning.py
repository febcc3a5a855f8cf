"""Deletion of unneeded files of a store; safe beside runs and under kill.

Files are first renamed into a trash folder, children before parents, while runs may not start or
look up artifacts; then the trash is emptied. A kill leaves complete artifacts and trash, which the
next clean-up empties.
"""

import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from artifacts.files.leftovers import TRASH
from artifacts.leases import cleaning, used_now
from artifacts.remote.remote_runs import shown_as_run
from artifacts.store import Store
from tasks.promoting.release_history import archive
from tasks.upkeep.needed import Keep, needed
from tasks.upkeep.remote_cleaning import RemoteWaste, clean_remotely, wasted_remotely
from tasks.upkeep.waste import Waste, leftovers, wasted_artifacts

KEPT_DECISIONS = 20
"""Number of decisions kept as single files; older ones are merged to one."""


@dataclass(frozen=True)
class Cleaned:
    """Deleted (or deletable) files; ``runs``: number of active runs."""

    waste: Sequence[Waste]
    runs: int
    remote: Sequence[RemoteWaste] = ()

    @property
    def files(self) -> int:
        return sum(each.files for each in self._deleted)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self._deleted)

    @property
    def _deleted(self) -> list[Waste | RemoteWaste]:
        return [*self.waste, *(each for each in self.remote if each.orphans is not None)]

    @property
    def sentence(self) -> str:
        return f"{self.bytes / 1e6:,.1f} MB in {self.files:,} files that nothing needs were deleted"

    def by_kind(self) -> dict[str, tuple[int, int, int]]:
        """Returns folders, files and bytes by kind."""
        found: dict[str, tuple[int, int, int]] = {}
        for each in (*self.waste, *self.remote):
            places, files, size = found.get(each.kind, (0, 0, 0))
            found[each.kind] = (places + 1, files + each.files, size + each.bytes)
        return found


def clean(store: Store, keep: Keep, *, dry_run: bool = False) -> Cleaned:
    """Deletes or lists unneeded files; for a remote store local copies immediately, and objects
    some days later (`remote_cleaning`).

    Raises:
        HistoryDamagedError, ArtifactCorruptError: decisions or a pointer are unreadable; no file is
            deleted.
    """
    with cleaning(store.local):
        runs, used = used_now(store.local)
        kept = needed(store, keep, used)
        wasted = wasted_artifacts(store, kept)
        wasted += leftovers(store, keep, runs=runs)
        if not dry_run:
            _throw_away(store, wasted)
    remotely: list[RemoteWaste] = []
    if store.remote is not None:
        with shown_as_run(store.remote):  # No users are removed meanwhile.
            if not dry_run:
                store.remote.relist_all(kept)  # Needed again since another clean-up.
            remotely = wasted_remotely(store, store.remote, kept, keep)
            if not dry_run:
                clean_remotely(store.remote, remotely)
    if not dry_run:
        shutil.rmtree(store.local / TRASH, ignore_errors=True)
        archive(store, KEPT_DECISIONS)
    return Cleaned(wasted, runs, remotely)


def _throw_away(store: Store, wasted: Sequence[Waste]) -> None:
    trash = store.local / TRASH
    trash.mkdir(exist_ok=True)
    for each in wasted:
        if each.kind != "trash":
            with suppress(FileNotFoundError):  # Deleted by its owner in the meantime.
                each.path.rename(trash / uuid.uuid4().hex)
