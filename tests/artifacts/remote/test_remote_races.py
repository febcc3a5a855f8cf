"""What another machine changes between a look at a remote artifact and the act is kept."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import fsspec
import pytest

from artifacts.files.ownership import locked
from artifacts.integrity import ArtifactCorruptError
from artifacts.leases import LEASES
from artifacts.machines.store_in_use import store_in_use
from artifacts.manifest import MANIFEST, Kind, identity
from artifacts.remote import remote_lease
from artifacts.remote.remote_side import CHANGES, UNLISTED, RemoteStore
from artifacts.rewriting import rewrite
from artifacts.store import Store
from tests.artifacts.machines import Machine

MADE = identity(Kind.MODEL, {"n": 1}, {})
FILES = ("weights", "config")


def put(store: Store, content: bytes) -> Store:
    with store.create(MADE) as draft:
        for name in FILES:
            (draft.path / name).write_bytes(content * 100)
    return store


def read(store: Store) -> bytes:
    """Returns the letter of which all files of the artifact are."""
    folder = store.path(MADE.ref)
    (letter,) = {(folder / name).read_bytes() for name in FILES}
    return letter[:1]


def remote_of(store: Store) -> RemoteStore:
    assert store.remote is not None
    return store.remote


def seen(store: Store) -> bytes:
    content = remote_of(store).manifest(MADE.ref)
    assert content is not None
    return content


def unlist(store: Store) -> Store:
    assert remote_of(store).unlist(MADE.ref, seen(store))
    return store


def damage(root: str, *, gone: bool = False) -> None:
    """Deletes a file of the artifact in the bucket, or changes a byte of it."""
    files, place = fsspec.core.url_to_fs(root)
    files.invalidate_cache()
    (weights,) = [path for path in files.find(place) if path.endswith("/weights")]
    if gone:
        files.rm_file(weights)
    else:
        files.pipe_file(weights, b"x" * 100)


def repair(store: Store, content: bytes) -> None:
    """Makes the artifact again as a stage does that was refused a damaged one."""
    with pytest.raises(ArtifactCorruptError):
        store.path(MADE.ref)
    put(store, content)


Between = Callable[..., None]
"""Lets another machine act once, before or after the first call of a machine's method."""


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    def hooked(
        store: Store, name: str, act: Callable[[], object], *, of: str = "", after: bool = False
    ) -> None:
        acts, method = [act], getattr(remote_of(store), name)

        def call(*args: Any) -> Any:
            now = acts.pop() if acts and of in ("", args[0]) else None
            if now is not None and not after:
                now()
            result = method(*args)
            if now is not None and after:
                now()
            return result

        monkeypatch.setattr(remote_of(store), name, call)

    return hooked


@pytest.mark.parametrize("step", ["set_aside", "upload"])
def test_of_two_repairs_at_once_one_is_used_by_all(
    machine: Machine, between: Between, step: str
) -> None:
    damage(put(machine("maker"), b"a").root, gone=True)
    one, two = machine("one"), machine("two")
    between(two, step, lambda: put(one, b"b"))
    put(two, b"c")
    assert read(one) == read(two) == read(machine("later")) == b"b"


def test_a_reader_of_a_damaged_artifact_keeps_its_repair(
    machine: Machine, between: Between
) -> None:
    damage(put(machine("maker"), b"a").root)
    reader, other = machine("reader"), machine("other")
    between(reader, "set_aside", lambda: repair(other, b"b"))
    assert read(reader) == read(machine("later")) == b"b"


def test_a_garbage_manifest_that_was_replaced_after_the_look_stays_replaced(
    machine: Machine, between: Between
) -> None:
    maker = put(machine("maker"), b"a")
    remote_of(maker).write(b"garbage", MADE.kind, MADE.fingerprint, MANIFEST)
    one, two = machine("one"), machine("two")
    between(two, "set_aside", lambda: put(one, b"b"))
    put(two, b"c")
    assert read(one) == read(two) == read(machine("later")) == b"b"


def test_an_artifact_is_unlisted_only_as_it_was_seen(machine: Machine) -> None:
    maker = put(machine("maker"), b"a")
    before = seen(maker)
    damage(maker.root)
    repair(machine("one"), b"b")
    assert not remote_of(maker).unlist(MADE.ref, before)
    assert read(machine("later")) == b"b"
    assert remote_of(maker).unlist(MADE.ref, seen(maker))


def test_objects_of_an_artifact_that_is_listed_again_after_the_look_stay(machine: Machine) -> None:
    cleaner = remote_of(unlist(put(machine("maker"), b"a")))
    orphans = cleaner.orphans(MADE.ref)
    assert orphans is not None
    assert machine("one").holds(MADE.ref)
    assert not cleaner.delete_orphans(orphans)
    assert read(machine("later")) == b"a"


def test_an_artifact_whose_objects_are_deleted_meanwhile_is_not_listed_again(
    machine: Machine, between: Between
) -> None:
    cleaner = remote_of(unlist(put(machine("maker"), b"a")))
    orphans = cleaner.orphans(MADE.ref)
    assert orphans is not None
    one = machine("one")
    between(one, "read", lambda: cleaner.delete_orphans(orphans), of=UNLISTED, after=True)
    assert not one.holds(MADE.ref)
    assert cleaner.manifest(MADE.ref) is None


def test_a_maker_that_came_second_does_without_the_first_once_that_is_unlisted(
    machine: Machine, between: Between
) -> None:
    one, two = machine("one"), machine("two")
    between(two, "upload", lambda: put(one, b"a"))
    cleaner = machine("cleaner")
    between(two, "upload", lambda: unlist(cleaner), after=True)
    put(two, b"b")
    assert read(one) == read(two) == read(machine("later")) == b"a"


def test_a_reader_beside_a_removal_of_users_gets_what_was_rewritten(
    machine: Machine, between: Between
) -> None:
    put(machine("maker"), b"a")
    reader, other = machine("reader"), machine("other")

    def remove() -> None:
        with rewrite(other, MADE.ref) as draft:
            for name in FILES:
                (draft.path / name).write_bytes(b"b")

    between(reader, "fetch", remove)
    assert read(reader) == read(machine("later")) == b"b"


def test_a_maker_whose_files_were_deleted_before_its_manifest_takes_what_is_made_after_it(
    machine: Machine, between: Between
) -> None:
    suspended, other = machine("suspended"), machine("other")

    def clean_all() -> None:
        orphans = remote_of(other).orphans(MADE.ref)
        assert orphans is not None
        assert remote_of(other).delete_orphans(orphans)

    between(suspended, "create", clean_all)
    put(suspended, b"a")
    assert not other.holds(MADE.ref)
    put(other, b"b")
    with store_in_use(suspended):
        assert read(suspended) == read(other) == read(machine("later")) == b"b"


def test_changes_go_on_after_a_machine_has_died_in_the_middle_of_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(remote_lease, "POLL_SECONDS", 0.01)
    maker = put(machine("maker"), b"a")
    remote_of(maker).create(b"died here", *CHANGES, "00000001.held")
    remote_of(maker).write(seen(maker), UNLISTED, f"{MADE.kind}-{MADE.fingerprint}.json")
    unlist(machine("one"))
    assert read(machine("later")) == b"a"


@pytest.mark.parametrize("look", ["path", "holds"])
def test_a_run_does_not_use_a_copy_of_an_artifact_that_was_made_again(
    machine: Machine, look: str
) -> None:
    holder = put(machine("holder"), b"a")
    damage(holder.root)
    repair(machine("one"), b"b")
    with store_in_use(holder):
        assert look == "path" or holder.holds(MADE.ref)
        assert read(holder) == b"b"


def test_a_copy_that_another_run_of_this_machine_uses_stays_until_its_end(machine: Machine) -> None:
    holder = put(machine("holder"), b"a")
    damage(holder.root)
    repair(machine("one"), b"b")
    lease = holder.local / LEASES / "of-another-process.lease"
    for in_use, expected in ((True, b"a"), (False, b"b")):
        with store_in_use(holder):
            lease.write_text(f"{MADE.ref}\n")
            with locked(lease) if in_use else nullcontext():
                assert read(holder) == expected


def test_a_sound_copy_replaces_a_damaged_artifact_in_a_run(machine: Machine) -> None:
    holder = put(machine("holder"), b"a")
    remote_of(holder).write(b"garbage", MADE.kind, MADE.fingerprint, MANIFEST)
    with store_in_use(holder):
        assert read(holder) == b"a"
    with store_in_use(holder):
        assert read(holder) == read(machine("later")) == b"a"
        assert seen(holder) == (holder.path(MADE.ref) / MANIFEST).read_bytes()


def test_a_run_asks_the_store_once_about_a_copy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = put(machine("holder"), b"a")
    asked: list[tuple[str, ...]] = []
    method = remote_of(holder).read

    def read_counted(*parts: str) -> bytes | None:
        asked.append(parts)
        return method(*parts)

    with store_in_use(holder):
        monkeypatch.setattr(remote_of(holder), "read", read_counted)
        for _ in range(3):
            assert holder.holds(MADE.ref)
            assert read(holder) == b"a"
    assert asked == [(MADE.kind, MADE.fingerprint, MANIFEST)]
