"""Artifacts are what their manifests say, or nobody reads them."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.files.leftovers import SET_ASIDE
from artifacts.fingerprint import fingerprint_of
from artifacts.integrity import ArtifactCorruptError, ArtifactNewerError
from artifacts.kinds.arrays import write_arrays
from artifacts.kinds.clusters import write_cluster_names, write_clusters
from artifacts.kinds.item_vectors import StoredItemTables, write_item_tables
from artifacts.manifest import (
    MANIFEST,
    SCHEMA_VERSIONS,
    ArtifactRef,
    Kind,
    Manifest,
    document_of,
    identity,
)
from artifacts.store import Store

FLIPS = 200


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, kind: Kind, write: Callable[[Path], None], n: int = 0) -> ArtifactRef:
    made = identity(kind, {"n": n}, {})
    with store.create(made) as draft:
        write(draft.path)
        draft.counts["served_share"] = 1.0
    return made.ref


def a_table(name: str) -> Callable[[Path], None]:
    return lambda folder: pl.DataFrame({"n": range(20)}).write_parquet(folder / name)


def a_card(folder: Path) -> None:
    write_arrays(folder / "weights.safetensors", {"w": np.ones((5, 3), np.float32)})
    (folder / "config.json").write_text('{"hidden": 8}')


WRITERS: dict[Kind, Callable[[Path], None]] = {
    kind: a_table(f"{kind}.parquet") for kind in Kind
} | {
    Kind.CLUSTERS: lambda folder: write_clusters(folder, np.arange(7), np.ones(7), np.ones((2, 4))),
    Kind.CLUSTER_NAMES: lambda folder: write_cluster_names(
        folder,
        pl.DataFrame({"cluster": [1], "name": ["tea"]}),
        pl.DataFrame({"key": ["k"], "reason": ["r"]}),
    ),
    Kind.ITEM_TABLES: lambda folder: write_item_tables(
        folder,
        StoredItemTables(np.ones((4, 2)), np.ones((4, 3)), {"global.mean": np.ones(2)}),
    ),
    Kind.MODEL: a_card,
    Kind.REPORT: lambda folder: (folder / "report.html").write_text("<p>ok</p>") and None,
    Kind.RELEASE: lambda folder: None,
    Kind.REFRESH: lambda folder: None,
}


def flip(path: Path, place: int, mask: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(content)


def test_a_flipped_byte_of_any_kind_is_found_before_the_artifact_is_read(store: Store) -> None:
    dice = random.Random(5)
    refs = [put(store, kind, write) for kind, write in WRITERS.items()]
    files = [(ref, path) for ref in refs for path in sorted((store.local / str(ref)).rglob("*.*"))]
    for number in range(FLIPS):
        ref, path = files[number % len(files)]
        before, folder = path.read_bytes(), store.path(ref)
        manifest = store.manifest(ref)
        flip(path, dice.randrange(len(before)), dice.randrange(1, 256))
        if not (path.name == MANIFEST and is_read_as(store, manifest)):
            with pytest.raises(ArtifactCorruptError, match=path.name):
                store.path(ref)
            (aside,) = (store.local / SET_ASIDE).iterdir()
            aside.rename(folder)
        path.write_bytes(before)
        assert store.path(ref) == folder


def is_read_as(store: Store, manifest: Manifest) -> bool:
    """White space may change: it says nothing."""
    try:
        return store.manifest(manifest.ref) == manifest
    except ArtifactCorruptError:
        return False


def test_a_stage_makes_a_damaged_artifact_again_and_keeps_the_damaged_one_aside(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    made = identity(Kind.MODEL, {"n": 0}, {})
    ref = put(store, Kind.MODEL, a_card)
    sound = (store.path(ref) / "weights.safetensors").read_bytes()
    flip(store.path(ref) / "weights.safetensors", -1, 1)
    assert store.find(made) is None
    assert "weights.safetensors has other content" in caplog.text
    put(store, Kind.MODEL, a_card)
    assert store.find(made) == ref
    assert (store.path(ref) / "weights.safetensors").read_bytes() == sound
    (aside,) = (store.local / SET_ASIDE).iterdir()
    assert (aside / "weights.safetensors").read_bytes() != sound


def test_what_was_damaged_where_no_time_or_size_tells_is_found_by_the_full_sum(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = put(store, Kind.MODEL, a_card)
    path = store.path(ref) / "weights.safetensors"
    monkeypatch.setattr("artifacts.integrity._signature", lambda path: (0, 0, 0, 0, 0))
    store.path(ref)
    flip(path, -1, 1)
    assert store.path(ref) == path.parent, "this process has read the file and would not again"
    with pytest.raises(ArtifactCorruptError, match="run `llm4cdsr retrain`, which makes it again"):
        store.verify(ref)


def test_a_file_is_read_for_its_digest_once_in_a_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = put(store, Kind.MODEL, a_card)
    store.path(ref)
    read: list[Path] = []
    monkeypatch.setattr("artifacts.integrity._xxh3_of", read.append)
    store.path(ref)
    assert read == []


def test_an_artifact_of_before_digests_opens_and_is_checked_by_its_sha256(store: Store) -> None:
    ref = put(store, Kind.MODEL, a_card)
    path = store.path(ref) / MANIFEST
    document = json.loads(path.read_bytes())
    del document["digest"], document["upload"]
    for stored in document["files"].values():
        del stored["xxh3"]
    path.write_text(json.dumps(document, indent=2))
    assert store.path(ref) == path.parent
    assert store.manifest(ref).digest is None
    flip(path.parent / "config.json", 2, 1)
    with pytest.raises(ArtifactCorruptError, match=r"config\.json has other content"):
        store.path(ref)


def link_the_file(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "elsewhere")
    (folder / "config.json").symlink_to(folder.parent / "elsewhere")


def link_the_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def rewrite(folder: Path, **changed: object) -> None:
    document = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**document, "digest": None, **changed}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (link_the_file, "not a regular file"),
        (link_the_folder, "is a link"),
        (lambda folder: rewrite(folder, fingerprint="0" * 16), "is that of model/0000"),
        (lambda folder: rewrite(folder, parameters={"n": 9}), "content that its fingerprint names"),
        (lambda folder: rewrite(folder, outcome="2 failed"), "content that its fingerprint names"),
        (lambda folder: rewrite(folder, digest="0" * 64), "was changed after it was written"),
        (lambda folder: rewrite(folder, kind="dataset"), "is that of dataset"),
        (lambda folder: rewrite(folder, upload="../up"), "not the name of a folder"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\x00" * 99), "is not a manifest"),
        (lambda folder: (folder / MANIFEST).write_bytes(b""), "is not a manifest"),
    ],
)
def test_a_manifest_or_folder_that_was_tampered_with_is_named_and_not_opened(
    store: Store, damage: Callable[[Path], None], said: str
) -> None:
    ref = put(store, Kind.MODEL, a_card)
    damage(store.path(ref))
    with pytest.raises(ArtifactCorruptError, match=said):
        store.path(ref)
    assert not store.holds(ref)


@pytest.mark.parametrize(
    "name", ["../stolen", "/etc/passwd", "a/../../b", "deep//twice", "./same", "a\0b", ""]
)
def test_a_manifest_names_files_of_its_own_folder_only(store: Store, name: str) -> None:
    ref = put(store, Kind.MODEL, a_card)
    (store.local / "stolen").write_text("x")
    folder = store.path(ref)
    stored = json.loads((folder / MANIFEST).read_bytes())["files"]["config.json"]
    rewrite(folder, files={name: stored})
    with pytest.raises(ArtifactCorruptError, match=r"is not a manifest .*in the artifact"):
        store.path(ref)


@pytest.mark.parametrize("name", ["../../outside", "..", ".", "", "a\0b"])
def test_a_forged_parent_or_pointer_leads_to_no_folder_outside_of_the_store(
    store: Store, tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / MANIFEST).write_text("{}")
    parent = {"kind": "model", "fingerprint": name}
    forged = {"kind": "release", "parameters": {}, "parents": {"model": parent}}
    version = SCHEMA_VERSIONS[Kind.RELEASE]
    print_of = fingerprint_of([{**forged, "outcome": "complete"}, version])
    ref = put(store, Kind.RELEASE, WRITERS[Kind.RELEASE])
    folder = store.path(ref).rename(store.local / "release" / print_of)
    rewrite(folder, **forged, fingerprint=print_of)
    store.point("serving", ref)
    (store.local / "pointers" / "serving.json").write_text(json.dumps(parent))

    with pytest.raises(ArtifactCorruptError, match=r"is not a manifest \(parents\.model"):
        store.path(store.manifest(ArtifactRef(kind=Kind.RELEASE, fingerprint=print_of)).ref)
    with pytest.raises(ArtifactCorruptError, match=r"serving\.json cannot be read"):
        store.path(store.pointed("serving") or ref)
    assert (tmp_path / "outside" / MANIFEST).read_text() == "{}"


def test_an_artifact_of_a_newer_version_is_refused_and_left_where_it_is(store: Store) -> None:
    ref = put(store, Kind.MODEL, a_card)
    folder = store.path(ref)
    rewrite(folder, schema_version=99)
    with pytest.raises(ArtifactNewerError, match=r"schema 99 of model.*install the newer version"):
        store.path(ref)
    assert not store.holds(ref)
    assert folder.exists()


def test_a_garbage_pointer_names_its_file_and_the_way_out(store: Store) -> None:
    store.point("refreshed", put(store, Kind.REFRESH, WRITERS[Kind.REFRESH]))
    path = store.local / "pointers" / "refreshed.json"
    path.write_bytes(b"\xff\x00garbage")
    with pytest.raises(ArtifactCorruptError, match=f"{path} cannot be read.*delete it.*llm4cdsr"):
        store.pointed("refreshed")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_content_is_on_disk_before_the_manifest_and_the_manifest_before_its_folder_has_a_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power failure would keep: the content that each file and folder had when it was last
    synced. Names may survive without it."""
    content: dict[int, bytes] = {}
    entries: dict[int, list[str]] = {}
    real_sync, real_rename = os.fsync, Path.rename
    seen: list[str] = []

    def synced(handle: int) -> None:
        real_sync(handle)
        place = Path(f"/proc/self/fd/{handle}").resolve()
        inode = os.fstat(handle).st_ino
        if place.is_dir():
            entries[inode] = names_in(place)
        else:
            content[inode] = place.read_bytes()
        if MANIFEST in place.name:
            seen.append("manifest")
            assert_all_kept(place.parent, but=place.name)

    def assert_all_kept(folder: Path, but: str = "") -> None:
        for path in folder.rglob("*"):
            if path.is_file() and path.name != but:
                assert content.get(path.stat().st_ino) == path.read_bytes(), f"{path} may be lost"
            elif path.is_dir():
                assert entries.get(path.stat().st_ino) == names_in(path)

    def renamed(source: Path, target: Path) -> Path:
        seen.append("rename")
        assert_all_kept(source)
        assert entries[source.stat().st_ino] == names_in(source)
        return real_rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)

    def deep(folder: Path) -> None:
        a_card(folder)
        (folder / "deep").mkdir()
        (folder / "deep" / "more.bin").write_bytes(b"more")

    ref = put(store, Kind.MODEL, deep)
    assert seen == ["manifest", "rename"]
    beside = entries[(store.local / Kind.MODEL).stat().st_ino]
    assert ref.fingerprint in beside, "the rename itself may be lost"
    assert Kind.MODEL in entries[store.local.stat().st_ino]


def test_a_document_says_the_digest_of_all_it_says(store: Store) -> None:
    manifest = store.manifest(put(store, Kind.MODEL, a_card))
    assert (
        document_of(manifest)
        == (store.local / str(put(store, Kind.MODEL, a_card)) / MANIFEST).read_bytes()
    )
    changed = manifest.model_copy(update={"counts": {"served_share": 0.5}})
    assert json.loads(document_of(changed))["digest"] != manifest.digest
