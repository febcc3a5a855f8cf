"""A removal goes on beside artifacts that it cannot read, and is not complete while one remains."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from artifacts.files.leftovers import APPLIED
from artifacts.forgotten import forgettings, is_interrupted
from artifacts.kinds.dataset import read_dataset
from artifacts.machines.cached_copies import catch_up
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.store_notes import write_note
from flows.cli.command_table import app
from tasks.forgetting.forget import IncompleteRemovalError, forget
from tests.artifacts.machines import KINDS, machines, remote_root
from tests.tasks.forgetting.leaving_person import GONE, told_by
from tests.tasks.shops.small_shop import EVENTS, TITLES, SmallShop

Opened = Callable[[], Store]

NEWER = 99

UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "no UTF-8": lambda content: b"\xff\xfe" + content,
    "no object": lambda content: b"[]",
    "changed": lambda content: content.replace(b'"outcome": "complete"', b'"outcome": "partial"'),
    "version as text": lambda content: content.replace(
        b'"schema_version": 1', b'"schema_version": "1"'
    ),
    "nested": lambda content: b"[" * 100_000,
}


@pytest.fixture(params=["local", *KINDS])
def shared(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    """Opens one store, a remote one each time from a machine without copies."""
    if request.param == "local":
        yield lambda: Store(tmp_path / "store")
        return
    with remote_root(request.param, tmp_path) as url:
        machine, numbers = machines(url, tmp_path, monkeypatch), itertools.count()
        yield lambda: machine(f"machine-{next(numbers)}")


def shop(title: str = "Moka Pot Six Cups") -> SmallShop:
    names = {user: user for user, *_ in EVENTS} | {"ada": GONE}
    return replace(SmallShop().renamed(names), titles=TITLES | {("gear", "g1"): title})


def lists(store: Store, dataset: ArtifactRef) -> ArtifactRef:
    """Makes an artifact with the dataset's user indices and ids."""
    made = identity(Kind.RECOMMENDATIONS, {"of": "this test"}, {"dataset": dataset})
    with store.create(made) as draft:
        read_dataset(store, dataset).users.write_parquet(draft.path / "lists.parquet")
    return made.ref


def edit(store: Store, ref: ArtifactRef, change: Callable[[bytes], bytes]) -> None:
    """Changes a manifest in its place, as nobody's program does."""
    if store.remote is None:
        path = store.local / ref.kind / ref.fingerprint / MANIFEST
        path.write_bytes(change(path.read_bytes()))
    else:
        content = store.remote.manifest(ref)
        assert content is not None
        store.remote.write(change(content), ref.kind, ref.fingerprint, MANIFEST)


def known(content: bytes) -> bytes:
    """Returns a manifest of `newer` as this version writes it."""
    facts = json.loads(content)
    del facts["regions"]
    return json.dumps(facts | {"schema_version": 1}).encode()


def newer(content: bytes) -> bytes:
    """Returns a manifest as a later version might write it, with a field of its own."""
    return json.dumps(json.loads(content) | {"schema_version": NEWER, "regions": []}).encode()


def files_that_tell(store: Store, text: str) -> list[str]:
    files, place = fsspec.core.url_to_fs(store.root)
    files.invalidate_cache()
    found = [path for path in files.find(place) if files.exists(path)]  # Links lead nowhere.
    return [path for path in found if text in told_by(files.cat_file(path))]


def of_artifact(paths: list[str], ref: ArtifactRef) -> bool:
    return any(f"/{ref}/" in path for path in paths)


@pytest.mark.parametrize("damage", UNREADABLE)
def test_an_artifact_with_a_damaged_manifest_is_deleted(shared: Opened, damage: str) -> None:
    dataset = shop().ingested(shared())
    ref = lists(shared(), dataset)
    edit(shared(), ref, UNREADABLE[damage])
    assert of_artifact(files_that_tell(shared(), GONE), ref)
    assert forget(shared(), [GONE]).users == {GONE}
    assert files_that_tell(shared(), GONE) == []
    assert not is_interrupted(shared())
    assert GONE not in read_dataset(shared(), dataset).users["user_id"].to_list()


@pytest.mark.parametrize("is_folder", [True, False], ids=["a folder", "nothing"])
def test_an_artifact_without_a_manifest_is_deleted(shared: Opened, is_folder: bool) -> None:
    dataset = shop().ingested(shared())
    ref = lists(shared(), dataset)
    files, place = fsspec.core.url_to_fs(shared().root)
    manifest = f"{place}/{ref}/{MANIFEST}"
    files.rm_file(manifest)
    if is_folder:
        files.makedirs(manifest, exist_ok=True)
        files.pipe_file(f"{manifest}/x", GONE.encode())
    forget(shared(), [GONE])
    assert files_that_tell(shared(), GONE) == []
    assert lists(shared(), dataset) == ref
    assert shared().path(ref).is_dir()


def test_what_a_newer_version_made_stays_with_its_dataset_until_that_version_removes_it(
    shared: Opened,
) -> None:
    old, dataset = shop("Moka Pot").ingested(shared()), shop().ingested(shared())
    ref, other = lists(shared(), dataset), lists(shared(), old)
    edit(shared(), ref, newer)
    for _ in range(2):
        with pytest.raises(IncompleteRemovalError, match=rf"^2 artifacts .*{ref}.*newer") as error:
            forget(shared(), [GONE])
        assert set(error.value.removed.left) == {str(ref), str(dataset)}
        assert is_interrupted(shared())
        told = files_that_tell(shared(), GONE)
        assert of_artifact(told, ref)
        assert of_artifact(told, dataset)
        assert not of_artifact(told, old)
        assert not of_artifact(told, other)
    edit(shared(), ref, known)
    forget(shared(), [])
    assert files_that_tell(shared(), GONE) == []
    assert not is_interrupted(shared())


def test_a_manifest_that_this_machine_cannot_read_stays_with_every_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    dataset = shop().ingested(store)
    ref = lists(store, dataset)
    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.parent.name == ref.fingerprint:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(IncompleteRemovalError, match="Permission denied") as error:
        forget(store, [GONE])
    assert set(error.value.removed.left) == {str(ref), str(dataset)}
    monkeypatch.setattr(Path, "read_bytes", whole)
    forget(store, [])
    assert files_that_tell(store, GONE) == []


def test_the_first_line_says_what_remains_and_why_and_the_status_is_1(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ref = lists(store, shop().ingested(store))
    edit(store, ref, newer)
    for users in ([GONE], []):
        ended = CliRunner().invoke(app, ["forget", *users, "--store", store.root])
        assert ended.exit_code == 1, ended.output
        first = ended.stdout.splitlines()[0]
        assert first.startswith("Not complete: 2 artifacts may still have data")
        assert f"{ref} (" in first
        assert "install the newer version" in first
    edit(store, ref, known)
    ended = CliRunner().invoke(app, ["forget", "--store", store.root])
    assert ended.exit_code == 0, ended.output
    assert "The interrupted removal is complete." in ended.stdout


def test_an_artifact_behind_a_link_is_named_with_the_place_of_its_data(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ref = lists(store, shop().ingested(store))
    folder, disk = store.path(ref), tmp_path / "disk"
    folder.rename(disk)
    folder.symlink_to(disk)
    with pytest.raises(IncompleteRemovalError, match=f"is a link; delete it and {disk}") as error:
        forget(store, [GONE])
    assert set(error.value.removed.left) == {str(ref)}
    folder.unlink()
    forget(store, [])
    assert files_that_tell(store, GONE) == []


def test_a_damaged_line_of_the_log_is_a_removal(shared: Opened) -> None:
    dataset = shop().ingested(shared())
    write_note(shared(), "forgotten/log.jsonl", b"{half\n")
    forget(shared(), [GONE])
    assert files_that_tell(shared(), GONE) == []
    assert [each.people for each in forgettings(shared())] == [0, 1]
    assert GONE not in read_dataset(shared(), dataset).users["user_id"].to_list()


def test_files_that_are_not_the_stores_end_no_removal(shared: Opened) -> None:
    dataset = shop().ingested(shared())
    store = shared()
    files, place = fsspec.core.url_to_fs(store.root)
    foreign = [f"{place}/{Kind.DATASET}/README.txt", f"{place}/{Kind.REPORT}/copy/{MANIFEST}"]
    for path in foreign:
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.pipe_file(path, b"{}")
    here = store.local / Kind.DATASET
    here.mkdir(parents=True, exist_ok=True)
    strays = "0123456789abcdef", "fedcba9876543210"
    (here / strays[0]).write_text(GONE)
    (here / strays[1]).symlink_to("nothing")
    for name in ("alerts", "logs"):
        (store.workspace(name) / "folder").mkdir()
        (store.workspace(name) / "link").symlink_to("nothing")
    forget(store, [GONE])
    assert files_that_tell(store, GONE) == []
    assert not any(os.path.lexists(here / name) for name in strays)
    assert all(files.exists(path) for path in foreign)
    assert GONE not in read_dataset(shared(), dataset).users["user_id"].to_list()


def test_a_damaged_count_of_applied_removals_applies_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with remote_root("file", tmp_path) as url:
        machine = machines(url, tmp_path, monkeypatch)
        shop().ingested(machine("one"))
        forget(machine("two"), [GONE])
        here = machine("one")
        assert files_that_tell(Store(here.local), GONE)
        (here.local / "work").mkdir(exist_ok=True)
        (here.local / "work" / APPLIED).write_bytes(b"\xff")
        catch_up(here)
        assert files_that_tell(Store(here.local), GONE) == []
