"""The store: whole artifacts or none, under crashes, races, damage and remote roots."""

import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from artifacts.integrity import ArtifactCorruptError, ArtifactMissingError
from artifacts.manifest import MANIFEST, ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from tests.artifacts.programs_at_once import run_at_once

ROOM = Path(__file__).parents[2]

KILLED_WHILE_CREATING = """
import os, signal, sys
from artifacts.manifest import Kind, identity
from artifacts.store import Store
with Store(sys.argv[1]).create(identity(Kind.CLUSTERS, {"n": 1}, {})) as draft:
    (draft.path / "data.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""

COMMITTED_WITH_OTHERS = """
import sys
from artifacts.manifest import Kind, identity
from artifacts.store import Store
with Store(sys.argv[1]).create(identity(Kind.CLUSTERS, {"n": 1}, {})) as draft:
    (draft.path / "data.bin").write_bytes(b"whole")
    print("ready", flush=True)
    sys.stdin.readline()
"""


def an_identity(n: int = 1, outcome: str = "complete") -> Identity:
    return identity(Kind.CLUSTERS, {"n": n}, {}, outcome=outcome)


def put(store: Store, made: Identity, content: bytes = b"whole") -> ArtifactRef:
    with store.create(made) as draft:
        (draft.path / "data.bin").write_bytes(content)
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "more.bin").write_bytes(content * 2)
        draft.counts["rows"] = 7
        draft.notes.append("né")
    return made.ref


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store [1]")  # A name that a glob would take for a pattern.


def test_what_is_created_is_found_with_its_manifest(store: Store) -> None:
    made = an_identity()
    assert store.find(made) is None
    ref = put(store, made)
    assert store.find(made) == ref
    manifest = store.manifest(ref)
    assert (manifest.counts, manifest.notes) == ({"rows": 7}, ["né"])
    assert set(manifest.files) == {"data.bin", "deep/more.bin"}
    assert manifest.files["data.bin"].size == 5
    store.verify(ref)


def test_an_error_while_creating_leaves_nothing(store: Store) -> None:
    def break_off() -> None:
        with store.create(an_identity()) as draft:
            (draft.path / "data.bin").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert store.find(an_identity()) is None
    assert list((store.local / Kind.CLUSTERS).iterdir()) == []


def test_a_process_killed_while_creating_leaves_nothing_to_be_found(store: Store) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_CREATING, store.root]
    killed = subprocess.run(command, cwd=ROOM, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list((store.local / Kind.CLUSTERS).iterdir()), "it was not killed in the middle"
    assert store.find(an_identity()) is None
    assert store.artifacts(Kind.CLUSTERS) == []
    with pytest.raises(ArtifactMissingError):
        store.path(an_identity().ref)
    store.verify(put(store, an_identity()))


def test_nothing_is_seen_before_the_block_ends(store: Store) -> None:
    with store.create(an_identity()) as draft:
        (draft.path / "data.bin").write_bytes(b"all of it")
        assert store.find(an_identity()) is None
        assert store.artifacts(Kind.CLUSTERS) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut short", "gone"])
@pytest.mark.parametrize("name", ["data.bin", "deep/more.bin", MANIFEST])
def test_a_damaged_artifact_is_made_anew(
    store: Store, name: str, damage: Callable[[Path], None]
) -> None:
    ref = put(store, an_identity())
    damage(store.path(ref) / name)
    assert store.find(an_identity()) is None
    put(store, an_identity(), b"anew!")
    assert (store.path(ref) / "data.bin").read_bytes() == b"anew!"
    store.verify(ref)


def test_a_whole_artifact_is_never_replaced(store: Store) -> None:
    ref = put(store, an_identity(), b"first")
    created = store.manifest(ref).created
    put(store, an_identity(), b"later")
    assert (store.path(ref) / "data.bin").read_bytes() == b"first"
    assert store.manifest(ref).created == created
    assert [path.name for path in store.path(ref).parent.iterdir()] == [ref.fingerprint]


def test_an_unreadable_manifest_names_the_way_out_and_hides_no_other_artifact(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ref, other = put(store, an_identity()), put(store, an_identity(2))
    path = store.path(ref) / MANIFEST
    path.write_text("{")
    with pytest.raises(
        ArtifactCorruptError, match="delete its folder, then run `llm4cdsr refresh`"
    ):
        store.manifest(ref)
    assert [found.fingerprint for found in store.artifacts(Kind.CLUSTERS)] == [other.fingerprint]
    assert str(path) in caplog.text


def test_two_processes_that_commit_one_identity_at_once_both_succeed(store: Store) -> None:
    command = [sys.executable, "-c", COMMITTED_WITH_OTHERS, store.root]
    # Both are inside the block when they go on.
    assert run_at_once([command, command], ROOM) == [0, 0]
    store.verify(an_identity().ref)
    assert len(list((store.local / Kind.CLUSTERS).iterdir())) == 1


def test_an_incomplete_outcome_is_not_taken_for_the_complete_one(store: Store) -> None:
    partial = put(store, an_identity(outcome="3 items failed"))
    assert store.find(an_identity()) is None
    assert store.find(an_identity(outcome="3 items failed")) == partial
    assert store.manifest(partial).outcome == "3 items failed"
    assert put(store, an_identity()) != partial


def test_artifacts_are_listed_oldest_first(store: Store) -> None:
    refs = [put(store, an_identity(n)) for n in (5, 3, 4)]
    listed = store.artifacts(Kind.CLUSTERS)
    assert [manifest.fingerprint for manifest in listed] == [ref.fingerprint for ref in refs]
    assert store.artifacts(Kind.MODEL) == []


def test_a_pointer_is_replaced_in_one_step(store: Store) -> None:
    refs = [an_identity(n).ref for n in (1, 2)]
    assert store.pointed("serving") is None
    store.point("serving", refs[0])
    stop = threading.Event()
    seen: set[ArtifactRef | None] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(store.pointed("serving"))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        store.point("serving", refs[turn % 2])
    stop.set()
    reader.join()
    assert seen <= set(refs), "the reader met half a pointer, or none"
    assert store.pointed("serving") == refs[1]
    assert [path.name for path in (store.local / "pointers").iterdir()] == ["serving.json"]


def test_a_workspace_stays_until_it_is_dropped(store: Store) -> None:
    (store.workspace("train-1") / "checkpoint").write_text("x")
    assert (store.workspace("train-1") / "checkpoint").exists()
    store.drop_workspace("train-1")
    store.drop_workspace("train-1")
    assert list(store.workspace("train-1").iterdir()) == []


@pytest.fixture(params=["memory", "file"])
def remote_root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/bucket"
    return f"memory://bucket-{uuid.uuid4().hex}"


def machine(root: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("LLM4CDSR_CACHE", str(cache))
    return Store(root)


def test_another_machine_reads_what_one_put_into_a_remote_root(
    remote_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = machine(remote_root, tmp_path / "here", monkeypatch)
    reader = machine(remote_root, tmp_path / "there", monkeypatch)
    assert reader.find(an_identity()) is None
    ref = put(writer, an_identity())
    writer.point("serving", ref)
    assert reader.pointed("serving") == ref
    assert reader.find(an_identity()) == ref
    reader.verify(ref)
    assert (reader.path(ref) / "deep" / "more.bin").read_bytes() == b"wholewhole"
    writer.point("serving", an_identity(2).ref)
    assert reader.pointed("serving") == an_identity(2).ref


def test_a_remote_artifact_without_its_manifest_is_not_there_yet(
    remote_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = machine(remote_root, tmp_path / "here", monkeypatch)
    ref = put(writer, an_identity())
    remote, root = fsspec.core.url_to_fs(remote_root)
    remote.rm(f"{root}/{ref.kind}/{ref.fingerprint}/{MANIFEST}")
    reader = machine(remote_root, tmp_path / "there", monkeypatch)
    assert reader.find(an_identity()) is None
    with pytest.raises(ArtifactMissingError, match="run the stage"):
        reader.path(ref)


def test_an_upload_that_breaks_off_is_not_found_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"memory://bucket-{uuid.uuid4().hex}"
    writer = machine(root, tmp_path / "here", monkeypatch)
    remote, _ = fsspec.core.url_to_fs(root)
    pipe_file = remote.pipe_file

    def breaks(path: str, content: bytes, mode: str = "overwrite") -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(remote, "pipe_file", breaks)
    with pytest.raises(ConnectionError):
        put(writer, an_identity())
    reader = machine(root, tmp_path / "there", monkeypatch)
    assert writer.find(an_identity()) is None
    assert reader.find(an_identity()) is None
    monkeypatch.setattr(remote, "pipe_file", pipe_file)
    reader.verify(put(writer, an_identity()))


def test_machines_that_fetch_one_artifact_into_one_cache_at_once_all_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"file://{tmp_path}/bucket"
    ref = put(machine(root, tmp_path / "here", monkeypatch), an_identity())
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "there"))
    gate = threading.Barrier(4)
    errors: list[Exception] = []

    def fetch() -> None:
        gate.wait()
        try:
            Store(root).verify(ref)
        except (OSError, ArtifactCorruptError, ArtifactMissingError) as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in (Store(root).local / ref.kind).iterdir()] == [ref.fingerprint]
