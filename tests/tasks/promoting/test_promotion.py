"""The history of what was served: promote, hold, go back, and back again."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from artifacts.bundles import SERVING, create_bundle
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.promoting import promotion
from tasks.promoting.promotion import (
    NoSuchReleaseError,
    UnsoundReleaseError,
    hold,
    promote,
    release_named,
    roll_back,
    was_decided,
)
from tasks.promoting.release_history import Decision, history, serving_release


def made(store: Store, number: int) -> ArtifactRef:
    part = identity(Kind.MODEL, {"number": number}, {})
    with store.create(part) as draft:
        (draft.path / "weights").write_bytes(b"w" * 20)
        draft.counts["number"] = number
    return create_bundle(store, Kind.RELEASE, {"model": part.ref})


def test_rollback_walks_back_release_by_release_and_then_says_that_there_is_none(
    store: Store,
) -> None:
    first, second, third = (made(store, number) for number in range(3))
    for release in (first, second, third):
        promote(store, release, "better")
    assert roll_back(store) == second
    assert roll_back(store, "still wrong") == first
    assert store.pointed(SERVING) == first
    with pytest.raises(NoSuchReleaseError, match="none to go back to"):
        roll_back(store)
    assert history(store)[-1].reason == "still wrong"


def test_after_a_rollback_a_new_release_goes_on_from_there(store: Store) -> None:
    first, second, third = (made(store, number) for number in range(3))
    promote(store, first, "")
    promote(store, second, "")
    roll_back(store)
    promote(store, third, "")
    assert roll_back(store) == first  # Not the second, which was found wanting.


@pytest.mark.parametrize("meanwhile", ["rollback", "hold"])
def test_two_rollbacks_at_once_go_back_one_release(
    store: Store, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    first, second, third = (made(store, number) for number in range(3))
    for release in (first, second, third):
        promote(store, release, "better")
    check = promotion.require_sound

    def slow(store: Store, release: ArtifactRef) -> dict[str, ArtifactRef]:
        monkeypatch.setattr(promotion, "require_sound", check)
        if meanwhile == "hold":
            hold(store, made(store, 3), "worse")
        else:
            assert roll_back(store) == second
        return check(store, release)

    monkeypatch.setattr(promotion, "require_sound", slow)
    if meanwhile == "hold":
        assert roll_back(store) == second
    else:
        with pytest.raises(promotion.ServedMeanwhileError, match=second.fingerprint):
            roll_back(store)
    assert serving_release(store) == second


def test_a_held_release_is_noted_and_not_served(store: Store) -> None:
    first, second = made(store, 0), made(store, 1)
    promote(store, first, "")
    hold(store, second, "worse")
    assert store.pointed(SERVING) == first
    assert [entry.decision for entry in history(store)] == [Decision.PROMOTED, Decision.HELD]


def test_promoting_what_is_served_already_adds_nothing_to_go_back_to(store: Store) -> None:
    first, second = made(store, 0), made(store, 1)
    for release in (first, second, second):
        promote(store, release, "")
    assert roll_back(store) == first


def test_a_store_from_before_the_history_can_go_back_to_what_it_served(store: Store) -> None:
    old, new = made(store, 0), made(store, 1)
    store.point(SERVING, old)
    promote(store, new, "")
    assert roll_back(store) == old


def test_a_release_is_found_by_how_its_name_begins(store: Store) -> None:
    release = made(store, 0)
    promote(store, release, "")
    assert release_named(store, release.fingerprint[:4]) == release
    assert release_named(store, str(release)) == release
    with pytest.raises(NoSuchReleaseError, match=release.fingerprint):
        release_named(store, "nothing")


def test_a_release_that_is_gone_is_never_pointed_to(store: Store) -> None:
    gone = ArtifactRef(kind=Kind.RELEASE, fingerprint="0" * 16)
    with pytest.raises(UnsoundReleaseError, match="is not in"):
        promote(store, gone, "")
    assert store.pointed(SERVING) is None


def lose_the_part(folder: Path) -> None:
    shutil.rmtree(folder)


def flip_a_byte(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 19 + b"v")


def cut_a_file(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 19)


@pytest.mark.parametrize("damage", [lose_the_part, flip_a_byte, cut_a_file])
def test_only_a_release_that_is_whole_is_promoted_or_gone_back_to(store: Store, damage) -> None:  # noqa: ANN001
    first, second = made(store, 0), made(store, 1)
    promote(store, first, "")
    promote(store, second, "")
    damage(store.path(store.manifest(first).parents["model"]))
    with pytest.raises(UnsoundReleaseError, match=f"{first.fingerprint} cannot be served: .*model"):
        promote(store, first, "")
    with pytest.raises(UnsoundReleaseError):
        roll_back(store)
    assert serving_release(store) == second
    assert len(history(store)) == 2


def test_a_release_whose_lists_hold_no_numbers_is_not_promoted(store: Store) -> None:
    lists = identity(Kind.RECOMMENDATIONS, {}, {})
    row = {"user_id": "ada", "domain": "books", "rank": 1, "item_id": "b1", "title": "Tea"}
    table = pl.DataFrame([{**row, "score": float("nan")}], RECOMMENDATION_SCHEMA)
    with store.create(lists) as draft:
        table.write_parquet(draft.path / RECOMMENDATIONS)
    release = create_bundle(store, Kind.RELEASE, {"recommendations": lists.ref})
    with pytest.raises(UnsoundReleaseError, match="1 scores of its recommendations are no finite"):
        promote(store, release, "the gate was open")
    assert serving_release(store) is None


def test_artifacts_are_decided_once_a_release_of_them_was_promoted_or_held(store: Store) -> None:
    part = identity(Kind.DATASET, {}, {})
    with store.create(part) as draft:
        draft.counts["events"] = 1
    release = create_bundle(store, Kind.RELEASE, {"dataset": part.ref})
    assert not was_decided(store, {"dataset": part.ref})
    hold(store, release, "worse")
    assert was_decided(store, {"dataset": part.ref})
    other = ArtifactRef(kind=Kind.DATASET, fingerprint="0" * 16)
    assert not was_decided(store, {"dataset": other})


def test_the_history_of_a_remote_store_is_there_for_every_machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path_factory.mktemp('remote').name}"
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path_factory.mktemp("here")))
    here = Store(url)
    promote(here, made(here, 0), "first")
    promote(here, made(here, 1), "second")
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path_factory.mktemp("there")))
    there = Store(url)
    assert [entry.reason for entry in history(there)] == ["first", "second"]
    assert roll_back(there) == here.pointed(SERVING)
