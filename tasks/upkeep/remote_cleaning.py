"""Deletion of unneeded objects of a remote store, safe beside runs of other machines.

An artifact is unlisted first, which treats it as missing; a run that looks it up or opens it lists
it again. After some days unlisted, its files and those of killed makers are deleted.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from artifacts.integrity import ArtifactCorruptError
from artifacts.manifest import ArtifactRef, Kind
from artifacts.remote.remote_side import Orphans, RemoteStore
from artifacts.store import Store
from tasks.upkeep.needed import Keep


@dataclass(frozen=True)
class RemoteWaste:
    """Objects of an unneeded artifact; without ``orphans`` it is only unlisted."""

    ref: ArtifactRef
    files: int
    bytes: int
    why: str
    orphans: Orphans | None = None

    @property
    def kind(self) -> str:
        return f"{self.ref.kind} in the remote store"


def wasted_remotely(
    store: Store, remote: RemoteStore, needed: Collection[ArtifactRef], keep: Keep
) -> list[RemoteWaste]:
    """Returns the artifacts to unlist, children before parents, and those to delete. Artifacts of
    the last ``keep.days`` are kept, because runs of other machines may use them."""
    since = datetime.now(UTC) - timedelta(days=keep.days)
    found = [
        RemoteWaste(
            manifest.ref,
            len(manifest.files),
            0,
            f"no release or run needs it; its files go in {keep.days:g} days",
        )
        for manifest in reversed([each for kind in Kind for each in store.artifacts(kind)])
        if manifest.ref not in needed
        and manifest.created < since
        and remote.manifest(manifest.ref) is not None
    ]
    return [*found, *_old_orphans(remote, since)]


def clean_remotely(remote: RemoteStore, waste: Collection[RemoteWaste]) -> None:
    """Unlists and deletes the result of `wasted_remotely`."""
    for each in waste:
        if each.orphans is None:
            remote.unlist(each.ref)
        else:
            remote.delete_orphans(each.orphans)


def _old_orphans(remote: RemoteStore, since: datetime) -> Iterator[RemoteWaste]:
    for kind in Kind:
        for name in remote.fingerprints(kind):
            try:
                orphans = remote.orphans(ArtifactRef(kind=kind, fingerprint=name))
            except ArtifactCorruptError:
                continue  # Quarantined on opening.
            if orphans is not None and orphans.changed < since:
                why = "no manifest names it"
                yield RemoteWaste(orphans.ref, len(orphans.paths), orphans.bytes, why, orphans)
