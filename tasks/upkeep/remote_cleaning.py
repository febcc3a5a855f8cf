"""Deletion of unneeded objects of a remote store, safe beside runs of other machines.

An artifact is unlisted first, which treats it as missing; a run that looks it up or opens it lists
it again. After some days unlisted, its files and those of killed makers are deleted.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from artifacts.integrity import ArtifactCorruptError, parse_manifest
from artifacts.manifest import ArtifactRef, Kind
from artifacts.remote.remote_side import Orphans, RemoteStore
from artifacts.store import Store
from tasks.upkeep.needed import Keep


@dataclass(frozen=True)
class RemoteWaste:
    """Objects of an unneeded artifact; ``seen`` is the manifest to unlist, None if the ``orphans``
    are deleted."""

    ref: ArtifactRef
    seen: bytes | None
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
    found = []
    for manifest in reversed([each for kind in Kind for each in store.artifacts(kind)]):
        ref = manifest.ref
        if ref in needed or manifest.created >= since:
            continue
        seen = remote.manifest(ref)
        if seen is not None and _is_older(seen, ref, since):
            why = f"no release or run needs it; its files go in {keep.days:g} days"
            found.append(RemoteWaste(ref, seen, len(manifest.files), 0, why))
    return [*found, *_old_orphans(remote, needed, since)]


def clean_remotely(remote: RemoteStore, waste: Collection[RemoteWaste]) -> None:
    """Unlists and deletes the result of `wasted_remotely`, except what has changed since."""
    for each in waste:
        if each.seen is not None:
            remote.unlist(each.ref, each.seen)
        if each.orphans is not None:
            remote.delete_orphans(each.orphans)


def _is_older(seen: bytes, ref: ArtifactRef, since: datetime) -> bool:
    """Returns whether a manifest was written before ``since``, False if it is damaged. The copy
    here may be older than what another machine has made again."""
    try:
        return parse_manifest(seen, ref, str(ref)).created < since
    except ArtifactCorruptError:
        return False  # Quarantined on opening.


def _old_orphans(
    remote: RemoteStore, needed: Collection[ArtifactRef], since: datetime
) -> Iterator[RemoteWaste]:
    for kind in Kind:
        for name in remote.fingerprints(kind):
            ref = ArtifactRef(kind=kind, fingerprint=name)
            if ref in needed and remote.manifest(ref) is None:
                continue  # Unlisted, and needed again.
            try:
                orphans = remote.orphans(ref)
            except ArtifactCorruptError:
                continue  # Quarantined on opening.
            if orphans is not None and orphans.changed < since:
                why = "no manifest names it"
                yield RemoteWaste(
                    orphans.ref, None, len(orphans.paths), orphans.bytes, why, orphans
                )
