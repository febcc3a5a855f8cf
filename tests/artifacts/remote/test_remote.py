"""Remote stores under several machines: one maker wins, and nothing is fetched unread or mixed."""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from artifacts.integrity import ArtifactCorruptError
from artifacts.manifest import MANIFEST, ArtifactRef, Identity, Kind, identity
from artifacts.remote.remote_side import RemoteStore
from artifacts.store import Store

MADE = identity(Kind.MODEL, {"n": 1}, {})

Machine = Callable[[str], Store]
"""Opens the store as the machine of a name does."""


@pytest.fixture(params=["memory", "file"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/bucket"
    return f"memory://bucket-{uuid.uuid4().hex}"


@pytest.fixture
def machine(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    def opened(name: str) -> Store:
        monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / name))
        return Store(root)

    return opened


def put(store: Store, content: bytes, made: Identity = MADE) -> Store:
    with store.create(made) as draft:
        (draft.path / "weights").write_bytes(content * 1000)
        (draft.path / "config").write_bytes(content)
        draft.counts["epochs"] = 3
    return store


def read(store: Store) -> set[bytes]:
    folder = store.path(MADE.ref)
    return {(folder / "weights").read_bytes()[:1], (folder / "config").read_bytes()}


def data_files(root: str, name: str) -> list[str]:
    files, place = fsspec.core.url_to_fs(root)
    return [path for path in files.find(place) if path.endswith(name)]


def test_a_manifest_is_read_without_its_artifact(
    machine: Machine,
    root: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(machine("here"), b"a")
    there = machine("there")
    files, _ = fsspec.core.url_to_fs(root)
    with monkeypatch.context() as patched:
        for way in ("get", "get_file"):
            patched.setattr(files, way, None)
        assert there.manifest(MADE.ref).counts == {"epochs": 3}
        assert there.find(MADE) == MADE.ref
        assert [manifest.ref for manifest in there.artifacts(Kind.MODEL)] == [MADE.ref]
    assert [path.name for path in (there.local / str(MADE.ref)).iterdir()] == [MANIFEST]
    assert read(there) == {b"a"}


def test_a_second_maker_takes_what_the_first_has_made(machine: Machine, root: str) -> None:
    first, second = put(machine("here"), b"a"), put(machine("there"), b"b")
    assert read(first) == read(second) == read(machine("elsewhere")) == {b"a"}
    assert len(data_files(root, "weights")) == 1


def test_of_makers_at_once_one_wins_and_nobody_reads_a_mixture(machine: Machine, root: str) -> None:
    stores = [machine(f"machine{number}") for number in range(3)]
    gate = threading.Barrier(3)

    def make(number: int) -> None:
        with stores[number].create(MADE) as draft:
            for name in ("weights", "config"):
                (draft.path / name).write_bytes(b"%d" % number)
            gate.wait()  # All have found that there is none.

    threads = [threading.Thread(target=make, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [read(store) for store in (*stores, machine("later"))]
    assert all(found == seen[0] and len(found) == 1 for found in seen)
    assert len(data_files(root, "weights")) == 1, "an upload that lost is left behind"


def test_a_manifest_that_appears_after_the_look_is_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("here"), machine("there")
    look = RemoteStore.is_whole

    def look_before_the_other(remote: RemoteStore, ref: ArtifactRef, content: bytes | None) -> bool:
        found = look(remote, ref, content)
        if remote is second.remote and not found:
            put(first, b"a")
        return found

    monkeypatch.setattr(RemoteStore, "is_whole", look_before_the_other)
    put(second, b"b")
    assert read(first) == read(second) == read(machine("later")) == {b"a"}


def test_what_arrives_damaged_is_not_taken_and_made_again(
    machine: Machine,
    root: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(machine("here"), b"a")
    files, _ = fsspec.core.url_to_fs(root)
    (weights,) = data_files(root, "weights")
    files.pipe_file(weights, b"a" * 999 + b"b")  # As long as it was.
    there = machine("there")
    with pytest.raises(ArtifactCorruptError, match=r"weights has other content.*llm4cdsr retrain"):
        there.path(MADE.ref)
    assert there.find(MADE) is None
    put(there, b"c")
    assert read(there) == read(machine("elsewhere")) == {b"c"}


def test_a_cached_copy_that_was_damaged_is_fetched_again(machine: Machine) -> None:
    store = put(machine("here"), b"a")
    for _ in range(2):
        (store.path(MADE.ref) / "config").write_bytes(b"x")
        assert read(store) == {b"a"}
    (store.path(MADE.ref) / "config").write_bytes(b"x")
    assert store.find(MADE) == MADE.ref
    assert read(store) == {b"a"}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_a_garbage_manifest_in_the_bucket_is_set_aside_and_the_artifact_made_again(
    machine: Machine,
    root: str,
    content: bytes,
) -> None:
    put(machine("here"), b"a")
    files, _ = fsspec.core.url_to_fs(root)
    (manifest,) = data_files(root, MANIFEST)
    files.pipe_file(manifest, content)
    there = machine("there")
    with pytest.raises(ArtifactCorruptError, match="is not a manifest"):
        there.path(MADE.ref)
    assert there.find(MADE) is None
    put(there, b"c")
    assert read(machine("elsewhere")) == {b"c"}
