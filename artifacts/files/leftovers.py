"""Temporary files of a store: copies of dumps, checkpoints, spooled rows, drafts, quarantine."""

import shutil
from collections.abc import Collection
from pathlib import Path

from artifacts.manifest import Kind

SET_ASIDE = "set-aside"
"""Folder of damaged artifacts, and of former content of the store after a restore."""

BEFORE_RESTORE = "before-restore-"
"""Prefix of folders in `SET_ASIDE` with the content before a restore."""

TRASH = ".trash"
"""Folder of artifacts before their deletion."""

APPLIED = "applied-removals"
"""File in ``work``: number of removals of users that are applied to this machine's copies."""

UNPACKED = "restore-"
"""Prefix of folders in ``work`` of an unpacked backup."""

RESTORING = "restoring"
"""File in ``work`` while a backup replaces the store."""

ALERTS = "alerts"
"""Folder in ``work`` of alerts that wait for the webhook; they may name users."""

KEPT_IN_WORK = frozenset({"leases", "logs", "machine", APPLIED, RESTORING})


def clear_leftovers(local: Path, kept: Collection[str] = ()) -> int:
    """Deletes the temporary files of a local root that no run uses, except the folders ``kept`` of
    ``work``; returns the number of deleted files."""
    stays = {*KEPT_IN_WORK, *kept}
    places = [path for path in (local / "work").glob("*") if path.name not in stays]
    places += [path for kind in Kind for path in (local / kind).glob(".*")]
    places += (local / "ledger").glob("*/.*.tmp")
    places += [local / SET_ASIDE, local / TRASH]
    return sum(map(delete_tree, places))


def delete_tree(place: Path) -> int:
    """Deletes a file, a link or a folder, if it exists; returns the number of files."""
    if place.is_dir() and not place.is_symlink():
        files = sum(path.is_file() for path in place.rglob("*"))
        shutil.rmtree(place)
        return files
    if place.exists() or place.is_symlink():
        place.unlink()
        return 1
    return 0
