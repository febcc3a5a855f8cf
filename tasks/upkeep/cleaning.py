"""Deletes what a store does not need; safe beside runs, and when it is killed.

What is deleted is renamed into a trash folder first, children before what they are made from, while
no run may begin or look for an artifact; then the trash is emptied. A kill leaves whole artifacts
and trash, which the next cleaning empties.
"""

import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from artifacts.leases import cleaning, used_now
from artifacts.store import Store
from tasks.promoting.decisions import archive
from tasks.upkeep.needed import Keep, needed
from tasks.upkeep.remote_cleaning import RemoteWaste, clean_remotely, wasted_remotely
from tasks.upkeep.waste import TRASH, Waste, leftovers, wasted_artifacts

KEPT_DECISIONS = 20
"""Newer decisions are files of their own; older ones are collected in one."""


@dataclass(frozen=True)
class Cleaned:
    """What was, or would be, deleted; ``runs`` were under way meanwhile."""

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
        """Returns places, files and bytes of each kind."""
        found: dict[str, tuple[int, int, int]] = {}
        for each in (*self.waste, *self.remote):
            places, files, size = found.get(each.kind, (0, 0, 0))
            found[each.kind] = (places + 1, files + each.files, size + each.bytes)
        return found


def clean(store: Store, keep: Keep, *, dry_run: bool = False) -> Cleaned:
    """Deletes what nothing needs, or only says what that is; of a remote store the copies of this
    machine at once, and its objects some days after nothing needs them (`remote_cleaning`).

    Raises:
        HistoryDamagedError, ArtifactCorruptError: decisions or a pointer are unreadable; nothing
            is deleted.
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
            with suppress(FileNotFoundError):  # Its owner has deleted it meanwhile.
                each.path.rename(trash / uuid.uuid4().hex)
