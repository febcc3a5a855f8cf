"""One ledger for machines with caches of their own: nobody pays for what another one has."""

import errno
import shutil
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from fsspec.implementations.local import LocalFileSystem

from artifacts.fingerprint import sha256_of
from artifacts.ledger import claims
from artifacts.ledger.answers import Answer, Question, Role
from artifacts.ledger.claims import Claims, ask_in_turns
from artifacts.ledger.compaction import compact
from artifacts.ledger.ledger import Ledger, open_ledger
from artifacts.ledger.repair import repair
from artifacts.ledger.shared import SharedLedgerGoneError, SharedPartDamagedError
from artifacts.remote import remote_lease
from artifacts.store import Store
from tests.artifacts.machines import Machine, machines

QUESTION = Question("model", {})


@pytest.fixture
def on_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machines(f"file://{tmp_path}/bucket", tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(remote_lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claims, "REMOTE_POLL_SECONDS", 0.02)


def prompts(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"key": [sha256_of(text) for text in texts], "prompt": list(texts)})


class Asker:
    """A machine that asks, and remembers what it was asked to pay for."""

    def __init__(self, store: Store, seconds: float = 0.0) -> None:
        self.ledger = open_ledger(store, Role.CHAT)
        self.paid: list[str] = []
        self._seconds = seconds

    def ask(self, table: pl.DataFrame) -> None:
        assert self.ledger.shared is not None
        with self.ledger.shared.kept_alive():
            ask_in_turns("test", self.ledger, table, QUESTION, self._pay, lambda: None)

    def _pay(self, mine: pl.DataFrame) -> list[None]:
        with self.ledger.journal("model") as journal:
            for key, text in mine.iter_rows():
                self.paid.append(text)
                journal.append(Answer(key, f"answer to {text}", None, "stop", 1, 1))
                time.sleep(self._seconds)
        return []

    def answers(self, table: pl.DataFrame) -> list[str]:
        return sorted(self.ledger.answers(table["key"])["text"])


def close_as_a_death_does(taken: Claims) -> None:
    for _, file in taken._held:
        file.close()


def test_a_new_machine_asks_nothing_and_after_a_change_only_the_change(machine: Machine) -> None:
    before, after = prompts("a", "b", "c"), prompts("b", "c", "d")
    first = Asker(machine("first"))
    first.ask(before)
    second = Asker(machine("second"))
    second.ask(before)
    assert (first.paid, second.paid) == (["a", "b", "c"], [])
    assert second.answers(before) == first.answers(before)
    second.ask(after)
    third = Asker(machine("third"))
    third.ask(pl.concat([before, after]).unique("key", maintain_order=True))
    assert (second.paid, third.paid) == (["d"], [])
    first.ask(after)
    assert first.answers(after) == ["answer to b", "answer to c", "answer to d"]


def test_an_unchanged_run_does_not_look_into_the_store(
    on_file: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker(on_file("first"))
    asker.ask(prompts("a", "b"))
    assert asker.ledger.shared is not None
    for way in ("names", "read", "write", "create", "put", "get", "delete"):
        monkeypatch.setattr(asker.ledger.shared._remote, way, None)
    asker.ask(prompts("a", "b"))
    assert asker.paid == ["a", "b"]


def test_machines_at_once_pay_for_no_prompt_twice(machine: Machine) -> None:
    tables = [
        prompts(*(f"{number}" for number in numbers))
        for numbers in (range(30), range(29, -1, -1), range(15, 40))
    ]
    askers = [Asker(machine(f"m{number}"), 0.005) for number in range(3)]
    threads = [
        threading.Thread(target=lambda a=asker, t=table: [a.ask(p) for p in t.iter_slices(10)])
        for asker, table in zip(askers, tables, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paid = [text for asker in askers for text in asker.paid]
    assert sorted(paid, key=int) == [f"{number}" for number in range(40)]
    for asker, table in zip(askers, tables, strict=True):
        assert len(asker.answers(table)) == table.height


def test_a_machine_that_died_is_waited_for_and_then_what_it_left_is_asked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", 0.4)
    died = Asker(machine("died"))
    died._pay(prompts("a"))
    assert died.ledger.shared is not None
    died.ledger.shared.push()
    # It claims, and is gone: no beat follows, nothing is released.
    taken = Claims(died.ledger, *QUESTION)
    taken.take(prompts("a", "b", "c"))
    close_as_a_death_does(taken)
    other = Asker(machine("other"))
    begun = time.monotonic()
    other.ask(prompts("a", "b", "c"))
    assert other.paid == ["b", "c"]
    assert time.monotonic() - begun >= 0.4
    assert not other.ledger.shared or other.ledger.shared.keys_claimed().is_empty()


def test_a_machine_does_not_wait_for_its_own_dead_process(on_file: Machine) -> None:
    died = Asker(on_file("same"))
    taken = Claims(died.ledger, *QUESTION)
    taken.take(prompts("a"))
    close_as_a_death_does(taken)
    again = Asker(on_file("same"))
    begun = time.monotonic()
    again.ask(prompts("a"))
    assert again.paid == ["a"]
    assert time.monotonic() - begun < remote_lease.LEASE_SECONDS / 2


def test_a_sealed_segment_goes_to_the_store_while_the_stage_still_asks(on_file: Machine) -> None:
    asking, other = Asker(on_file("asking")), Asker(on_file("other"))
    assert asking.ledger.shared is not None
    with asking.ledger.shared.kept_alive():
        asking._pay(prompts("a"))
        until = time.monotonic() + 20
        while not other.ledger.missing(prompts("a")["key"]).is_empty():
            assert time.monotonic() < until
            time.sleep(0.02)
            other.ledger.refresh()


def test_what_a_killed_process_has_sealed_or_only_written_is_shared_by_the_next(
    on_file: Machine,
) -> None:
    killed = Asker(on_file("machine"))
    killed._pay(prompts("a"))  # Sealed, not yet in the store.
    journal = killed.ledger.journal("model")
    journal.append(Answer(sha256_of("b"), "answer to b", None, "stop", 1, 1))
    journal._file.close()
    again = Asker(on_file("machine"))
    assert again.ledger.recover() == 1
    again.ask(prompts("a", "b"))
    other = Asker(on_file("other"))
    other.ask(prompts("a", "b"))
    assert (again.paid, other.paid) == ([], [])


def test_a_ledger_that_was_local_until_now_is_shared_as_a_whole(on_file: Machine) -> None:
    store = on_file("old")
    old = Ledger(store.local, Role.CHAT)
    with old.journal("model") as journal:
        journal.append(Answer(sha256_of("a"), "answer to a", None, "stop", 1, 1))
    Asker(store).ask(prompts("a"))
    new = Asker(on_file("new"))
    new.ask(prompts("a"))
    assert new.paid == []


def test_compaction_here_neither_sends_nor_fetches_anything_again(on_file: Machine) -> None:
    first, second = Asker(on_file("first")), Asker(on_file("second"))
    for text in "abc":
        first.ask(prompts(text))
    second.ask(prompts("a", "b", "c"))
    for asker in (first, second):
        assert compact(asker.ledger).files_after < 4
        assert asker.ledger.shared is not None
        assert (asker.ledger.shared.push(), asker.ledger.shared.pull()) == (0, 0)
        assert len(asker.answers(prompts("a", "b", "c"))) == 3


def test_a_damaged_part_is_named_and_not_taken_for_answers(
    on_file: Machine, tmp_path: Path
) -> None:
    Asker(on_file("first")).ask(prompts("a"))
    (part,) = (tmp_path / "bucket" / "ledger" / "chat").glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-9] + b"something")
    other = Asker(on_file("other"))
    with pytest.raises(SharedPartDamagedError, match=part.name):
        other.ask(prompts("a"))
    assert other.paid == []
    assert not list(other.ledger.folder.glob("*part-*")), "nothing of it stays"
    part.unlink()
    other.ask(prompts("a"))
    assert other.paid == ["a"]


def test_other_names_in_the_stores_folder_are_no_parts(on_file: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "bucket" / "ledger" / "chat"
    (folder / "claims").mkdir(parents=True)
    for name in ("part-x.parquet", "notes.txt", "claims/x.parquet", f"part-{'0' * 16}-.parquet"):
        (folder / name).write_bytes(b"no answers")
    asker = Asker(on_file("first"))
    asker.ask(prompts("a"))
    assert asker.paid == ["a"]


def test_a_store_that_is_away_for_a_moment_does_not_end_the_asking(
    on_file: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker(on_file("first"), 0.3)
    shared = asker.ledger.shared
    assert shared is not None
    write, failed = shared._remote.write, threading.Event()

    def sometimes(content: bytes, *parts: str) -> None:
        if threading.current_thread().name == "lease" and not failed.is_set():
            failed.set()
            raise RuntimeError("the store is away")
        write(content, *parts)

    monkeypatch.setattr(shared._remote, "write", sometimes)
    asker.ask(prompts("a"))
    assert failed.is_set()
    other = Asker(on_file("other"))
    other.ask(prompts("a"))
    assert other.paid == []


def test_a_slow_upload_keeps_the_claims_alive(
    on_file: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker(on_file("slow"))
    shared = asker.ledger.shared
    assert shared is not None
    put, uploading, go_on = shared._remote.put, threading.Event(), threading.Event()

    def slow(source: Path, *parts: str) -> None:
        uploading.set()
        assert go_on.wait(60)
        put(source, *parts)

    beats = set[bytes | None]()

    def ask(mine: pl.DataFrame) -> list[None]:
        monkeypatch.setattr(shared._remote, "put", slow)
        asker._pay(mine)
        (name,) = shared._own
        try:
            assert uploading.wait(30)
            until = time.monotonic() + 10
            while len(beats) < 4 and time.monotonic() < until:
                beats.add(shared._remote.read(*shared._claims, f"{name}.beat"))
                time.sleep(0.02)
        finally:
            go_on.set()
        return []

    with shared.kept_alive():
        ask_in_turns("test", asker.ledger, prompts("a"), QUESTION, ask, lambda: None)
    assert len(beats) >= 4
    assert shared.keys_claimed().is_empty()


def test_the_machine_of_a_copied_cache_waits_for_the_claims_of_the_first(
    on_file: Machine, tmp_path: Path
) -> None:
    first = Asker(on_file("first"))
    first.ask(prompts("a"))
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    assert first.ledger.shared is not None
    with first.ledger.shared.kept_alive(), Claims(first.ledger, *QUESTION) as taken:
        taken.take(prompts("b"))
        copy = Asker(on_file("copy"))
        with Claims(copy.ledger, *QUESTION) as others:
            assert others.take(prompts("b", "c"))["prompt"].to_list() == ["c"]
            assert others.claimed_elsewhere["prompt"].to_list() == ["b"]


def test_a_cache_that_was_copied_without_its_newest_parts_downloads_them(
    on_file: Machine, tmp_path: Path
) -> None:
    first = Asker(on_file("first"))
    first.ask(prompts("a"))
    first.ask(prompts("b"))
    without = sorted(first.ledger.folder.glob("part-*.parquet"))[-1].name
    shutil.copytree(tmp_path / "first", tmp_path / "copy", ignore=lambda *_: {without})
    copy = Asker(on_file("copy"))
    copy.ask(prompts("a", "b"))
    assert copy.paid == []
    assert copy.ledger.shared is not None
    assert open_ledger(on_file("copy"), Role.CHAT).shared.pull() == 0  # type: ignore[union-attr]


def test_after_a_repair_lost_answers_are_downloaded_and_not_paid_again(on_file: Machine) -> None:
    machine = Asker(on_file("first"))
    machine.ask(prompts("a", "b"))
    (part,) = machine.ledger.folder.glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-9] + b"something")
    assert repair(machine.ledger)
    machine.ask(prompts("a", "b"))
    assert machine.paid == ["a", "b"]
    assert machine.answers(prompts("a", "b")) == ["answer to a", "answer to b"]


def test_an_upload_that_ends_halfway_blocks_no_other_machine(
    on_file: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = Asker(on_file("first")), Asker(on_file("other"))
    first._pay(prompts("a"))
    shared = first.ledger.shared
    assert shared is not None

    def fills_the_disk(source: Path | str, target: Path | str, **_: object) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfile", fills_the_disk)
        full.setattr(LocalFileSystem, "cp_file", lambda _, a, b, **k: fills_the_disk(a, b, **k))
        with pytest.raises(OSError, match="No space left"):
            shared.push()
    assert not list((tmp_path / "bucket").rglob("*part-*"))
    other.ask(prompts("b"))
    first.ask(prompts("a", "b"))
    other.ask(prompts("a"))
    assert (first.paid, other.paid) == (["a"], ["b"])


@pytest.mark.parametrize("heartbeats", ["", "ledger/chat/claims"])
def test_the_place_of_a_share_that_is_not_mounted_swallows_no_answer(
    on_file: Machine, tmp_path: Path, heartbeats: str
) -> None:
    first = Asker(on_file("first"))
    first.ask(prompts("a"))
    (tmp_path / "bucket").rename(tmp_path / "elsewhere")
    (tmp_path / "bucket" / heartbeats).mkdir(parents=True)
    with pytest.raises(SharedLedgerGoneError, match="is empty, but had parts"):
        Asker(on_file("first")).ask(prompts("b"))
    shutil.copytree(tmp_path / "first", tmp_path / "restored")
    with pytest.raises(SharedLedgerGoneError):
        Asker(on_file("restored")).ask(prompts("b"))
    first._pay(prompts("c"))
    with pytest.raises(SharedLedgerGoneError):
        Asker(on_file("first")).ask(prompts("c"))
    assert not list((tmp_path / "bucket").rglob("part-*"))
    shutil.rmtree(tmp_path / "bucket")
    (tmp_path / "elsewhere").rename(tmp_path / "bucket")
    Asker(on_file("first")).ask(prompts("c"))
    other = Asker(on_file("other"))
    other.ask(prompts("a", "c"))
    assert other.paid == []


def test_a_store_emptied_on_purpose_is_filled_as_the_message_says(
    on_file: Machine, tmp_path: Path
) -> None:
    first = Asker(on_file("first"))
    first.ask(prompts("a"))
    shutil.rmtree(tmp_path / "bucket")
    (first.ledger.folder / "shared-parts.txt").unlink()
    shutil.rmtree(first.ledger.folder / "outbox")
    Asker(on_file("first")).ask(prompts("a"))
    other = Asker(on_file("other"))
    other.ask(prompts("a"))
    assert other.paid == []
