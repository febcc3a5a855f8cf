"""Cleaning a remote store keeps what is needed, also for machines that nobody here knows of."""

import shutil
from datetime import UTC, datetime

import fsspec
import pytest

from artifacts.leases import in_use
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, document_of, identity
from artifacts.store import Store
from tasks.promoting.promotion import promote, require_sound
from tasks.promoting.release_history import Decision, record_decision, serving_release
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep
from tasks.upkeep.remote_cleaning import clean_remotely, wasted_remotely
from tests.artifacts.machines import Machine
from tests.tasks.upkeep.kept_store import everything, make, release, require_whole

AT_ONCE = Keep(releases=1, days=0)


def objects(root: str, ref: ArtifactRef) -> list[str]:
    """Returns the objects of an artifact."""
    files, place = fsspec.core.url_to_fs(root)
    files.invalidate_cache()
    return files.find(f"{place}/{ref.kind}/{ref.fingerprint}")


def test_what_is_needed_stays_for_every_machine_and_the_rest_goes(
    machine: Machine, root: str
) -> None:
    old, *_, served = [release(machine("maker"), number) for number in range(4)]
    before = objects(root, old)
    assert clean(machine("maker"), Keep(releases=1)).remote == []  # Somebody may be using it.
    told = clean(machine("maker"), AT_ONCE, dry_run=True)
    assert objects(root, old) == before
    assert old in [each.ref for each in told.remote]
    clean(machine("maker"), AT_ONCE)
    assert old not in everything(machine("another"))
    clean(machine("maker"), AT_ONCE)
    assert objects(root, old) == []
    fresh = machine("third")
    assert serving_release(fresh) == served
    require_sound(fresh, served)
    require_whole(fresh)
    assert clean(machine("maker"), AT_ONCE).remote == []


@pytest.mark.parametrize("root", ["memory"], indirect=True)
def test_what_somebody_looks_for_or_opens_is_listed_again(machine: Machine, root: str) -> None:
    old, *_ = [release(machine("maker"), number) for number in range(4)]
    opened = machine("reader")
    parts = opened.manifest(old).parents
    clean(machine("maker"), AT_ONCE)
    assert opened.path(parts["model"]).is_dir()
    assert machine("another").holds(parts["metrics"])
    clean(machine("maker"), Keep(releases=1))
    for role in ("model", "metrics"):
        machine("third").verify(parts[role])


@pytest.mark.parametrize("root", ["memory"], indirect=True)
def test_a_copy_whose_object_was_deleted_is_published_again(machine: Machine, root: str) -> None:
    old, *_ = [release(machine("maker"), number) for number in range(4)]
    model = machine("holder").manifest(old).parents["model"]
    machine("holder").path(model)
    for _ in range(2):
        clean(machine("maker"), AT_ONCE)
    assert objects(root, model) == []
    with in_use(machine("holder").local):
        assert machine("holder").holds(model)
    machine("third").verify(model)


@pytest.mark.parametrize("root", ["memory", "file"], indirect=True)
def test_uploads_of_killed_makers_go_and_younger_ones_stay(machine: Machine, root: str) -> None:
    release(machine("maker"), 0)
    files, place = fsspec.core.url_to_fs(root)
    dead = identity(Kind.MODEL, {"of": "a killed maker"}, {}).ref
    files.makedirs(f"{place}/{dead.kind}/{dead.fingerprint}/files-0", exist_ok=True)
    files.pipe_file(f"{place}/{dead.kind}/{dead.fingerprint}/files-0/weights", b"half")
    clean(machine("maker"), Keep(releases=1))
    assert len(objects(root, dead)) == 1
    clean(machine("maker"), AT_ONCE)
    assert objects(root, dead) == []
    require_whole(machine("third"))


@pytest.mark.parametrize("root", ["memory"], indirect=True)
def test_an_artifact_that_is_made_again_while_unlisted_keeps_its_new_files(
    machine: Machine, root: str
) -> None:
    made = identity(Kind.MODEL, {"n": 1}, {})

    def make(store: Store, content: bytes) -> None:
        with store.create(made) as draft:
            (draft.path / "weights").write_bytes(content)

    release(machine("maker"), 0)
    make(machine("maker"), b"first")
    clean(machine("maker"), AT_ONCE)
    make(machine("another"), b"second")
    clean(machine("maker"), Keep(releases=1))
    assert (machine("third").path(made.ref) / "weights").read_bytes() in (b"first", b"second")
    machine("third").verify(made.ref)


@pytest.mark.parametrize("root", ["memory", "file"], indirect=True)
def test_what_another_machine_makes_again_between_look_and_cleaning_stays(
    machine: Machine, root: str
) -> None:
    old, *_ = [release(machine("maker"), number) for number in range(4)]
    cleaner, other = machine("maker").remote, machine("another")
    assert cleaner is not None
    model = other.manifest(old).parents["model"]
    parents = other.manifest(model).parents
    waste = wasted_remotely(machine("maker"), cleaner, {}, AT_ONCE)
    assert model in [each.ref for each in waste]
    assert cleaner.set_aside(model, cleaner.manifest(model) or b"")
    shutil.rmtree(other.local / str(model))
    make(other, model.kind, 0, **parents)
    clean_remotely(cleaner, waste)
    assert cleaner.manifest(model) is not None
    machine("third").verify(model)


@pytest.mark.parametrize("root", ["memory"], indirect=True)
def test_an_artifact_is_as_old_as_the_store_says_not_as_a_copy(machine: Machine, root: str) -> None:
    maker = machine("maker")
    assert maker.remote is not None
    model = make(maker, Kind.MODEL, 0)
    old = maker.manifest(model).model_copy(update={"created": datetime(2020, 1, 1, tzinfo=UTC)})
    (maker.path(model) / MANIFEST).write_bytes(document_of(old))
    assert wasted_remotely(maker, maker.remote, {}, Keep()) == []


@pytest.mark.parametrize("root", ["memory", "file"], indirect=True)
@pytest.mark.parametrize("cleanings", [1, 2])
def test_a_release_that_is_served_again_from_copies_stays_for_other_machines(
    machine: Machine, root: str, cleanings: int
) -> None:
    old, *_ = [release(machine("maker"), number) for number in range(4)]
    require_sound(machine("holder"), old)
    for _ in range(cleanings):  # The first one unlists its artifacts, the second deletes them.
        clean(machine("maker"), AT_ONCE)
    promote(machine("holder"), old, "as before")
    for _ in range(2):
        clean(machine("maker"), AT_ONCE)
    assert serving_release(machine("third")) == old
    require_sound(machine("third"), old)


@pytest.mark.parametrize("root", ["memory"], indirect=True)
def test_what_is_needed_again_after_it_was_unlisted_stays_with_its_ancestors(
    machine: Machine, root: str
) -> None:
    maker = machine("maker")
    old, *_ = [release(maker, number) for number in range(4)]
    clean(maker, AT_ONCE)
    record_decision(maker, Decision.PROMOTED, "beside the cleaning", lambda: (old, {}))
    told = clean(maker, AT_ONCE, dry_run=True)
    assert old not in [each.ref for each in told.remote]
    clean(maker, AT_ONCE)
    require_sound(machine("third"), old)
    require_whole(machine("third"))
