"""Needed artifacts of a store with their dependents; all others may be deleted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from artifacts.bundles import REFRESHED
from artifacts.integrity import ArtifactError, ArtifactNewerError
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import POINTERS, Store
from tasks.promoting.release_history import history, served_in_turn, serving_release

_CONTAINED = frozenset({(Kind.DATASET, "previous")})
"""Parents (by kind of the child and role) that are contained in the child: an extended dataset."""

_OF_NEEDED = (Kind.CANDIDATES, Kind.ABLATION, Kind.TRAINING_CHOICE)
"""Kinds outside of releases that a later run on the same artifacts reuses."""


@dataclass(frozen=True)
class Keep:
    """Retention. ``releases``: numbers of previously served and of last made ones. ``days``: of
    files of killed runs, copies of dumps and damaged artifacts."""

    releases: int = 3
    days: float = 7.0

    def __post_init__(self) -> None:
        if self.releases < 1:
            raise ValueError(f"{self.releases} releases cannot be kept: keep at least 1")


def needed(store: Store, keep: Keep, used: Iterable[str]) -> dict[ArtifactRef, str]:
    """Returns every needed artifact with the reason; ``used``: artifacts in use by runs.

    Raises:
        HistoryDamagedError: the served release is unknown, so no file may be deleted.
        ArtifactNewerError: dependencies of a newer version are unknown.
    """
    found: dict[ArtifactRef, str] = {}
    for reason, refs in _roots(store, keep, used).items():
        for ref in refs:
            for each in with_ancestors(store, ref):
                found.setdefault(each, reason)
    for kind in _OF_NEEDED:
        for manifest in store.artifacts(kind):
            if all(parent in found for parent in manifest.parents.values()):
                found.setdefault(manifest.ref, "made from needed artifacts")
    return found


def _roots(store: Store, keep: Keep, used: Iterable[str]) -> Mapping[str, list[ArtifactRef]]:
    entries = history(store)
    served = serving_release(store)
    # The last one is the served release.
    recent = served_in_turn(entries)[-keep.releases - 1 :]
    recent += list(dict.fromkeys(entry.release for entry in reversed(entries)))[: keep.releases]
    made = [manifest.ref for manifest in store.artifacts(Kind.RELEASE)][-keep.releases :]
    parts = [part for entry in entries if entry.release in recent for part in entry.parts.values()]
    return {
        "served": [served] if served else [],
        "one of the last releases": [*recent, *made, *parts],
        "the latest refresh": [ref for ref in [store.pointed(REFRESHED)] if ref],
        "pointed at": _pointed(store),
        "in use by a run": [_named(name) for name in used],
        "a cell of an experiment": [manifest.ref for manifest in store.artifacts(Kind.CELL)],
    }


def with_ancestors(store: Store, ref: ArtifactRef) -> dict[ArtifactRef, None]:
    """Returns an artifact and its ancestors; raises `ArtifactNewerError`."""
    found: dict[ArtifactRef, None] = {}
    waiting = [ref]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        found[each] = None
        try:
            parents = store.manifest(each, also_unlisted=True).parents
        except ArtifactNewerError:
            raise
        except ArtifactError:  # Missing or damaged.
            continue
        waiting += [
            parent for role, parent in parents.items() if (each.kind, role) not in _CONTAINED
        ]
    return found


def _pointed(store: Store) -> list[ArtifactRef]:
    names = {path.stem for path in (store.local / POINTERS).glob("[!.]*.json")}
    if store.remote is not None:
        names.update(name.removesuffix(".json") for name in store.remote.names(POINTERS))
    return [ref for ref in map(store.pointed, names) if ref is not None]


def _named(name: str) -> ArtifactRef:
    kind, _, fingerprint = name.partition("/")
    return ArtifactRef(kind=Kind(kind), fingerprint=fingerprint)
