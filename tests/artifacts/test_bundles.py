"""Pointers move to a whole bundle at once, and only when it is there."""

import pytest

from artifacts.bundles import REFRESHED, NothingRefreshedError, bundle, latest_refresh, parts_of
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import ArtifactMissingError, Store


def part(store: Store, kind: Kind, notes: tuple[str, ...] = (), number: int = 0) -> ArtifactRef:
    made = identity(kind, {"number": number}, {})
    with store.create(made) as draft:
        draft.notes.extend(notes)
    return made.ref


def test_the_pointer_names_what_was_bundled_last(store: Store) -> None:
    old = {"dataset": part(store, Kind.DATASET)}
    new = {"dataset": part(store, Kind.DATASET, number=1)}
    first = bundle(store, Kind.REFRESH, REFRESHED, old)
    second = bundle(store, Kind.REFRESH, REFRESHED, new)
    assert latest_refresh(store) == second
    assert parts_of(store, second) == new
    assert bundle(store, Kind.REFRESH, REFRESHED, old) == first  # Found, not made again.
    assert latest_refresh(store) == first
    assert len(store.artifacts(Kind.REFRESH)) == 2


def test_a_bundle_carries_the_notes_of_its_parts_once(store: Store) -> None:
    parts = {
        "dataset": part(store, Kind.DATASET, ("b", "a")),
        "clusters": part(store, Kind.CLUSTERS, ("b",)),
    }
    ref = bundle(store, Kind.REFRESH, REFRESHED, parts)
    assert store.manifest(ref).notes == ["a", "b"]


def test_a_bundle_of_something_missing_is_refused_and_moves_no_pointer(store: Store) -> None:
    absent = ArtifactRef(kind=Kind.DATASET, fingerprint="0" * 16)
    with pytest.raises(ArtifactMissingError):
        bundle(store, Kind.REFRESH, REFRESHED, {"dataset": absent})
    with pytest.raises(NothingRefreshedError, match="refresh"):
        latest_refresh(store)
