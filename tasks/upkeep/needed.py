"""Which artifacts of a store are still needed, and by what; everything else may be deleted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from artifacts.bundles import REFRESHED
from artifacts.integrity import ArtifactError, ArtifactNewerError
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import POINTERS, Store
from tasks.frame.unfinished_training import unfinished_sources
from tasks.promoting.decisions import history, served_in_turn, serving_release

_CONTAINED = frozenset({(Kind.DATASET, "previous")})
"""Parents by the child's kind and their role that the child holds whole: a dataset that a dump was
appended to."""

_OF_NEEDED = (Kind.CANDIDATES, Kind.ABLATION)
"""Named by no release, and looked for by the next run on the same artifacts."""


@dataclass(frozen=True)
class Keep:
    """What is kept beside what is in use.

    ``releases``: of those served before the one in use, and of the last that were made. ``days``:
    of what killed runs left, of copies of dumps and of damaged artifacts.
    """

    releases: int = 3
    days: float = 7.0

    def __post_init__(self) -> None:
        if self.releases < 1:
            raise ValueError(f"{self.releases} releases cannot be kept: keep at least 1")


def needed(store: Store, keep: Keep, used: Iterable[str]) -> dict[ArtifactRef, str]:
    """Returns every artifact that is needed, and why; ``used`` are the names that runs noted.

    Raises:
        HistoryDamagedError: nobody knows what is served, so nothing may be deleted.
        ArtifactNewerError: what a newer version made from what is for that version to say.
    """
    found: dict[ArtifactRef, str] = {}
    for reason, refs in _roots(store, keep, used).items():
        for ref in refs:
            for each in with_parents(store, ref):
                found.setdefault(each, reason)
    for kind in _OF_NEEDED:
        for manifest in store.artifacts(kind):
            if all(parent in found for parent in manifest.parents.values()):
                found.setdefault(manifest.ref, "made from what is needed")
    return found


def _roots(store: Store, keep: Keep, used: Iterable[str]) -> Mapping[str, list[ArtifactRef]]:
    entries = history(store)
    served = serving_release(store)
    # Of those served in turn the last is the one in use.
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
        "needed by an unfinished training": unfinished_sources(store),
        "a cell of an experiment": [manifest.ref for manifest in store.artifacts(Kind.CELL)],
    }


def with_parents(store: Store, ref: ArtifactRef) -> dict[ArtifactRef, None]:
    """Returns an artifact, then all that it is made of; raises `ArtifactNewerError`."""
    found: dict[ArtifactRef, None] = {}
    waiting = [ref]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        found[each] = None
        try:
            parents = store.manifest(each).parents
        except ArtifactNewerError:
            raise
        except ArtifactError:  # Gone or damaged: nothing can be made from it.
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
