"""Decisions are never lost: by writers at once, by a kill, by old stores, by damage."""

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from artifacts.bundles import SERVING, create_bundle
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.store_notes import FOLDER, write_note
from tasks.promoting.promotion import hold, promote, roll_back, was_decided
from tasks.promoting.release_history import (
    BEFORE,
    DECISIONS,
    Decision,
    Entry,
    HistoryDamagedError,
    archive,
    history,
    record_decision,
    served_in_turn,
    serving_release,
)
from tests.artifacts.programs_at_once import run_at_once

ROOM = Path(__file__).parents[3]

PROMOTES = """
import sys
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from tasks.promoting.release_history import Decision, record_decision
store, number = Store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(50):
    release = ArtifactRef(kind=Kind.RELEASE, fingerprint=f"{number:08d}{turn:08d}")
    record_decision(store, Decision.PROMOTED, "better", lambda: (release, {}))
"""

KILLED_AFTER_DECIDING = """
import os, signal, sys
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from tasks.promoting.promotion import promote
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
Store.point = die
promote(Store(sys.argv[1]), ArtifactRef(kind=Kind.RELEASE, fingerprint=sys.argv[2]), "better")
"""


def made(store: Store, number: int) -> ArtifactRef:
    part = identity(Kind.MODEL, {"number": number}, {})
    with store.create(part) as draft:
        draft.counts["number"] = number
    return create_bundle(store, Kind.RELEASE, {"model": part.ref})


def decided(store: Store, count: int) -> list[ArtifactRef]:
    releases = [made(store, number) for number in range(count)]
    for release in releases:
        promote(store, release, "better")
    return releases


def decision_files(store: Store) -> list[Path]:
    return sorted((store.local / FOLDER / DECISIONS).iterdir())


@pytest.mark.parametrize("place", ["folder", "url"])
def test_two_writers_of_fifty_promotions_each_lose_none(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "cache"))
    root = str(tmp_path / "store") if place == "folder" else f"file://{tmp_path}/bucket"
    command = [sys.executable, "-c", PROMOTES, root]
    run_at_once([[*command, str(n)] for n in range(2)], ROOM)
    store = Store(root)
    entries = history(store)
    assert len({entry.release.fingerprint for entry in entries}) == len(entries) == 100
    assert [entry.number for entry in entries] == list(range(1, 101))
    for number in range(2):
        own = [e.release.fingerprint for e in entries if int(e.release.fingerprint[:8]) == number]
        assert own == sorted(own), "a writer's decisions stand in the order in which it made them"
    assert store.pointed(SERVING) == entries[-1].release == serving_release(store)


def test_a_kill_between_a_decision_and_its_pointer_leaves_the_decision_whole(
    store: Store,
) -> None:
    first, second, third = (made(store, number) for number in range(3))
    promote(store, first, "")
    command = [sys.executable, "-c", KILLED_AFTER_DECIDING, store.root, second.fingerprint]
    assert subprocess.run(command, cwd=ROOM, check=False).returncode == -signal.SIGKILL
    assert store.pointed(SERVING) == first, "it was not killed in between"
    assert serving_release(store) == second
    promote(store, third, "")
    assert roll_back(store) == second
    assert store.pointed(SERVING) == second


def test_a_pointer_that_a_hand_has_changed_serves_nothing_else(store: Store) -> None:
    first, second = decided(store, 2)
    store.point(SERVING, first)
    assert serving_release(store) == second
    (store.local / "pointers" / "serving.json").write_bytes(b"garbage")
    assert serving_release(store) == second
    promote(store, first, "")
    assert store.pointed(SERVING) == first


@pytest.mark.parametrize("is_agreed", [True, False])
def test_a_store_of_before_numbered_decisions_goes_on_where_it_was(
    store: Store, is_agreed: bool
) -> None:
    old, served, new = (made(store, number) for number in range(3))
    lines = [
        Entry(at=datetime.now(UTC), release=release, decision=Decision.PROMOTED, reason="")
        for release in (old, served)[: 2 if is_agreed else 1]
    ]
    fields = {"at", "release", "decision", "reason"}
    text = "\n".join(line.model_dump_json(include=fields) for line in lines)
    write_note(store, BEFORE, text.encode())
    store.point(SERVING, served)
    assert serving_release(store) == served
    promote(store, new, "better")
    assert served_in_turn(history(store)) == [old, served, new]
    assert roll_back(store) == served
    assert roll_back(store) == old


def test_an_archive_changes_nothing_but_the_number_of_files(store: Store) -> None:
    releases = decided(store, 9)
    hold(store, releases[0], "worse")
    before = history(store)
    assert archive(store, keep=3) == 7
    assert len(decision_files(store)) == 4
    assert history(store) == before
    assert archive(store, keep=3) == 0
    roll_back(store)
    assert archive(store, keep=1) == 3
    assert len(decision_files(store)) == 2
    assert history(store)[:-1] == before
    assert serving_release(store) == releases[7]
    assert roll_back(store) == releases[6]


def test_what_is_served_is_known_where_all_but_held_decisions_are_archived(store: Store) -> None:
    releases = decided(store, 4)
    for release in releases[:3]:
        hold(store, release, "worse")
    archive(store, keep=2)
    assert serving_release(store) == releases[3]


def test_an_archive_that_was_written_before_its_writer_died_counts_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(store, 5)
    before = history(store)
    monkeypatch.setattr("tasks.promoting.release_history.delete_note", lambda store, name: None)
    archive(store, keep=2)
    assert len(decision_files(store)) == 6
    assert history(store) == before
    monkeypatch.undo()
    decided(store, 6)
    archive(store, keep=2)
    assert history(store)[:5] == before
    assert len(history(store)) == 11


def test_a_reader_that_listed_decisions_before_they_were_archived_looks_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.promoting import release_history

    releases = decided(store, 5)
    before, real = history(store), release_history.note_names
    stale = [real(store, DECISIONS)]
    archive(store, keep=1)
    monkeypatch.setattr(
        release_history,
        "note_names",
        lambda store, folder: stale.pop() if stale else real(store, folder),
    )
    assert release_history.history(store) == before
    stale.append([f"{number:08d}.json" for number in range(1, 5)])
    assert release_history.serving_release(store) == releases[-1]


def test_parts_are_decided_though_their_release_is_gone(store: Store) -> None:
    release = made(store, 0)
    parts = store.manifest(release).parents
    hold(store, release, "worse")
    (store.local / str(release) / "manifest.json").unlink()
    assert was_decided(store, parts)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01", b'{"at": 1', b'{"decision": "promoted"}'], ids=repr
)
def test_an_unreadable_decision_is_named_with_the_way_out_that_works(
    store: Store, content: bytes
) -> None:
    first, second, third = decided(store, 3)
    damaged = decision_files(store)[1]
    sound = damaged.read_bytes()
    damaged.write_bytes(content)
    with pytest.raises(HistoryDamagedError, match=f"{damaged.name} is not a decision.*delete it"):
        history(store)
    assert serving_release(store) == third, "an older decision has no say in it"
    damaged.unlink()
    promote(store, second, "")
    assert served_in_turn(history(store)) == [first, third, second]
    damaged.write_bytes(sound.replace(b'"better"', b'"bettor"'))
    with pytest.raises(HistoryDamagedError, match="was changed after it was written"):
        history(store)


def test_a_torn_history_of_before_names_its_line(store: Store) -> None:
    write_note(store, BEFORE, b'{"at": "2026-01-01T00:00:00Z", "relea')
    with pytest.raises(HistoryDamagedError, match=rf"line 1 of .*{BEFORE} is not a decision"):
        history(store)


def test_a_decision_is_chosen_again_where_another_came_first(store: Store) -> None:
    first, second, third = decided(store, 3)
    asked: list[ArtifactRef] = []

    def choose() -> tuple[ArtifactRef, dict[str, ArtifactRef]]:
        if not asked:
            asked.append(first)
            promote(store, first, "somebody else, meanwhile")
        asked.append(served_in_turn(history(store))[-2])
        return asked[-1], {}

    assert record_decision(store, Decision.ROLLED_BACK_TO, "", choose) == third
    assert [entry.release for entry in history(store)] == [first, second, third, first, third]


def test_a_remote_decision_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "here"))
    url = f"file://{tmp_path}/bucket"
    decided(Store(url), 3)
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "there"))
    there = Store(url)
    before = history(there)
    read: list[str] = []
    monkeypatch.setattr(
        "tasks.promoting.release_history.read_note", lambda store, name: read.append(name)
    )
    assert history(there) == before
    assert read == [BEFORE]
