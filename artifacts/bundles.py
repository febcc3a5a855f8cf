"""Bundles: artifacts that belong together under one name, so that one pointer switches all of them.

A refresh bundles the inputs of retraining; a release bundles the served artifacts.
"""

from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.user_error import UserError

REFRESHED = "refreshed"
"""Pointer to the latest refresh."""

SERVING = "serving"
"""Pointer to the served release."""


CLUSTER_NAMES, ABLATION = "cluster_names", "ablation"
"""Optional roles, used by the report only."""

CROSSINGS = "crossings"
"""Optional role of the cross-domain answers."""


class NothingRefreshedError(UserError, LookupError):
    """Retraining without an earlier refresh on this store."""


def bundle(store: Store, kind: Kind, pointer: str, parts: dict[str, ArtifactRef]) -> ArtifactRef:
    """Returns the bundle of ``parts``, created if new, and sets ``pointer`` to it."""
    ref = create_bundle(store, kind, parts)
    store.point(pointer, ref)
    return ref


def create_bundle(store: Store, kind: Kind, parts: dict[str, ArtifactRef]) -> ArtifactRef:
    """Returns the bundle of ``parts``, created if new; changes no pointer."""
    wanted = identity(kind, {}, parts)
    ref = store.find(wanted)
    if ref is None:
        with store.create(wanted) as draft:
            notes = {note for part in parts.values() for note in store.manifest(part).notes}
            draft.notes.extend(sorted(notes))
        ref = wanted.ref
    return ref


def parts_of(store: Store, ref: ArtifactRef) -> dict[str, ArtifactRef]:
    """Returns the artifacts of a bundle by role."""
    return store.manifest(ref).parents


def latest_refresh(store: Store) -> ArtifactRef:
    """Returns the latest refresh; raises `NothingRefreshedError`."""
    ref = store.pointed(REFRESHED)
    if ref is None:
        raise NothingRefreshedError(f"{store.root} has no refresh; run `llm4cdsr refresh` first")
    return ref
