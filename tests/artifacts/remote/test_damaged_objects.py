"""Damaged manifests and foreign objects in a shared store end no command."""

import fsspec
import pytest

from artifacts.manifest import MANIFEST, ArtifactRef, Kind, identity
from artifacts.remote.remote_side import RemoteStore
from artifacts.store import Store
from tests.artifacts.machines import Machine

MADE = identity(Kind.METRICS, {"of": "this test"}, {})


def made(store: Store) -> ArtifactRef:
    with store.create(MADE) as draft:
        (draft.path / "metrics.json").write_bytes(b"{}")
    return MADE.ref


def remote_of(store: Store) -> RemoteStore:
    assert store.remote is not None
    return store.remote


def objects(root: str) -> list[str]:
    """Returns the objects of the store's artifacts."""
    files, place = fsspec.core.url_to_fs(root)
    files.invalidate_cache()
    return files.find(f"{place}/{Kind.METRICS}")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\0", b"[]"])
def test_a_removal_deletes_the_artifact_of_a_damaged_manifest(
    machine: Machine, root: str, content: bytes
) -> None:
    ref = made(machine("maker"))
    remote_of(machine("maker")).write(content, ref.kind, ref.fingerprint, MANIFEST)
    remote_of(machine("another")).clear_leftovers()
    assert objects(root) == []
    made(machine("third"))
    assert machine("fourth").path(ref).is_dir()


def test_an_artifact_is_replaced_whose_manifest_is_damaged(machine: Machine, root: str) -> None:
    store = machine("maker")
    ref = made(store)
    manifest, folder = store.manifest(ref), store.path(ref)
    remote_of(store).write(b"{", ref.kind, ref.fingerprint, MANIFEST)
    remote_of(store).replace(manifest, folder)
    assert len(objects(root)) == 2
    assert machine("another").path(ref).is_dir()


def test_foreign_objects_beside_artifacts_are_left_alone(machine: Machine, root: str) -> None:
    ref = made(machine("maker"))
    remote = remote_of(machine("maker"))
    remote.write(b"of a person", Kind.METRICS, "README.txt")
    remote.write(b"no manifest", "unlisted", f"{Kind.METRICS}-.json")
    other = machine("another")
    assert [manifest.ref for manifest in other.artifacts(Kind.METRICS)] == [ref]
    remote_of(other).relist_all()
    remote_of(other).clear_leftovers()
    assert remote.read(Kind.METRICS, "README.txt") == b"of a person"
    assert remote.read(Kind.METRICS, MANIFEST) is None
    assert machine("third").path(ref).is_dir()
