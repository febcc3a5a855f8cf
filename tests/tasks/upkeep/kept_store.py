"""A store of releases that are made of a few bytes each, for tests of what is kept."""

from artifacts.bundles import REFRESHED, bundle, create_bundle
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.promoting.promotion import promote

REFRESH_ROLES = {
    "dataset": Kind.DATASET,
    "embeddings": Kind.ITEM_EMBEDDINGS,
    "clusters": Kind.CLUSTERS,
    "profiles": Kind.USER_PROFILES,
    "tables": Kind.ITEM_TABLES,
}
RELEASE_ROLES = {"model": Kind.MODEL, "metrics": Kind.METRICS, "report": Kind.REPORT}


def make(store: Store, kind: Kind, number: int, **parents: ArtifactRef) -> ArtifactRef:
    """Returns an artifact of 100 bytes."""
    wanted = identity(kind, {"number": number}, parents)
    if store.find(wanted) is None:
        with store.create(wanted) as draft:
            (draft.path / "data").write_bytes(bytes([number % 256]) * 100)
    return wanted.ref


def refresh(store: Store, number: int) -> dict[str, ArtifactRef]:
    """Returns the parts of a refresh, and points at it."""
    parts: dict[str, ArtifactRef] = {}
    for role, kind in REFRESH_ROLES.items():
        parts[role] = make(store, kind, number, **dict(list(parts.items())[-1:]))
    bundle(store, Kind.REFRESH, REFRESHED, parts)
    return parts


def release(store: Store, number: int) -> ArtifactRef:
    """Returns a release of a refresh of its own, which is served from now on."""
    parts = refresh(store, number)
    for role, kind in RELEASE_ROLES.items():
        parts[role] = make(store, kind, number, **parts)
    made = create_bundle(store, Kind.RELEASE, parts)
    promote(store, made, f"number {number}")
    return made


def everything(store: Store) -> list[ArtifactRef]:
    """Returns every artifact of a store."""
    return [manifest.ref for kind in Kind for manifest in store.artifacts(kind)]


def require_whole(store: Store) -> None:
    """Every artifact has its content, and all that it is made of."""
    found = everything(store)
    for ref in found:
        store.verify(ref)
        assert all(parent in found for parent in store.manifest(ref).parents.values()), ref
