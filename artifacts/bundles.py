"""Ties artifacts that belong together under one name, so that a pointer changes them at once.

A refresh bundles what retraining starts from; a release bundles what is served.
"""

from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.user_error import UserError

REFRESHED = "refreshed"
"""Pointer to the latest refresh."""

SERVING = "serving"
"""Pointer to the release whose recommendations are in use."""


CLUSTER_NAMES, ABLATION = "cluster_names", "ablation"
"""Roles of parts that only readers of the report see, and that a bundle may lack."""

CROSSINGS = "crossings"
"""Role of the answers across domains, which a bundle may lack."""


class NothingRefreshedError(UserError, LookupError):
    """A retrain was asked for and no refresh has run on this store."""


def bundle(store: Store, kind: Kind, pointer: str, parts: dict[str, ArtifactRef]) -> ArtifactRef:
    """Returns the bundle of ``parts``, made where it is new, and lets ``pointer`` name it."""
    ref = tie(store, kind, parts)
    store.point(pointer, ref)
    return ref


def tie(store: Store, kind: Kind, parts: dict[str, ArtifactRef]) -> ArtifactRef:
    """Returns the bundle of ``parts``, made where it is new; no pointer changes."""
    wanted = identity(kind, {}, parts)
    ref = store.find(wanted)
    if ref is None:
        with store.create(wanted) as draft:
            notes = {note for part in parts.values() for note in store.manifest(part).notes}
            draft.notes.extend(sorted(notes))
        ref = wanted.ref
    return ref


def parts_of(store: Store, ref: ArtifactRef) -> dict[str, ArtifactRef]:
    """Returns what a bundle ties together, by role."""
    return store.manifest(ref).parents


def latest_refresh(store: Store) -> ArtifactRef:
    """Raises `NothingRefreshedError`."""
    ref = store.pointed(REFRESHED)
    if ref is None:
        raise NothingRefreshedError(f"{store.root} holds no refresh; run `llm4cdsr refresh` first")
    return ref
