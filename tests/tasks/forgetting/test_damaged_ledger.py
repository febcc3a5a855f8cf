"""Answers about a removed user may be in a damaged file of the ledger, so the removal waits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from artifacts.forgotten import is_interrupted
from artifacts.ledger.answers import Answer, Role, answer_key
from artifacts.ledger.claims import PROMPT, Claims
from artifacts.ledger.journal import OUTBOX
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from artifacts.store_notes import NoteDamagedError, write_note
from flows.cli.command_table import app
from tasks.forgetting.forget import UnsearchedLedgerError, forget
from tests.tasks.shops.small_shop import SmallShop

GONE = "ada"
JOURNAL = "journal-0000000000000001-aaaaaaaaaaaa.jsonl"
CLAIM = "claim-0000000000000001-aaaaaaaaaaaa.parquet"


def part(folder: Path) -> Path:
    return next(folder.glob("part-*.parquet"))


def record(folder: Path) -> Path:
    return next(folder.glob("questions-*.parquet"))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def folder_for(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def halve_upload(folder: Path) -> None:
    (folder / OUTBOX).mkdir()
    shutil.copy(part(folder), folder / OUTBOX)
    halve(folder / OUTBOX / part(folder).name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "half a part": lambda folder: halve(part(folder)),
    "a flipped byte": lambda folder: flip(part(folder)),
    "another table": lambda folder: pl.DataFrame({"a": [1]}).write_parquet(part(folder)),
    "a folder for a part": lambda folder: folder_for(part(folder)),
    "a link": lambda folder: link(part(folder)),
    "half a record": lambda folder: halve(record(folder)),
    "a folder for a record": lambda folder: folder_for(record(folder)),
    "a line of a journal": lambda folder: (folder / JOURNAL).write_bytes(b"nonsense\n"),
    "a folder for a journal": lambda folder: folder_for(folder / JOURNAL),
    "a claim": lambda folder: (folder / CLAIM).write_bytes(b"PAR1"),
    "a folder for a claim": lambda folder: folder_for(folder / CLAIM),
    "half an upload": halve_upload,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a dataset and two answers."""
    store = Store(tmp_path / "store")
    SmallShop().ingested(store)
    document = json.dumps({"messages": [{"role": "user", "content": "ask"}]})
    key = answer_key("m", {}, json.loads(document))
    with Claims(ledger := Ledger(store.local, Role.CHAT), "m", {}) as claims:
        claims.take(pl.DataFrame({"key": [key], PROMPT: [document]}))
        with ledger.journal("m") as journal:
            journal.append(Answer(key, "an answer", None, "stop", 1, 1))
    return store


def users_of(store: Store) -> list[str]:
    [path] = (store.local / "dataset").glob("*/users.parquet")
    return pl.read_parquet(path, glob=False)["user_id"].to_list()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_removal_waits_for_the_repair_of_the_ledger(store: Store, name: str) -> None:
    DAMAGES[name](store.local / "ledger" / Role.CHAT)
    with pytest.raises(UnsearchedLedgerError, match=r"^1 file .*verify --repair") as raised:
        forget(store, [GONE])
    assert "nothing is removed yet" in str(raised.value).partition("\n")[0]
    assert is_interrupted(store)
    assert GONE in users_of(store)
    with pytest.raises(UnsearchedLedgerError):
        forget(store, [])
    place = ["--store", str(store.local)]
    assert CliRunner().invoke(app, ["ledger", "verify", "--repair", *place]).exit_code == 0
    forget(store, [])
    assert not is_interrupted(store)
    assert GONE not in users_of(store)
    assert not (store.local / "ledger" / Role.CHAT / "set-aside").exists()


def test_answers_whose_record_was_damaged_do_not_stay(store: Store) -> None:
    folder = store.local / "ledger" / Role.CHAT
    halve(record(folder))
    CliRunner().invoke(app, ["ledger", "verify", "--repair", "--store", str(store.local)])
    forget(store, [GONE])
    assert list(folder.glob("part-*.parquet")) == []


def test_requests_of_a_batch_that_cannot_be_read_are_named(store: Store) -> None:
    batch = store.local / "ledger" / Role.CHAT / "batches" / "b"
    batch.mkdir(parents=True)
    (batch / "requests.jsonl").write_text('{"custom_id": \n')
    with pytest.raises(UnsearchedLedgerError, match=r"delete .*batches/b"):
        forget(store, [GONE])
    shutil.rmtree(batch)
    forget(store, [])
    assert GONE not in users_of(store)


def test_a_folder_in_place_of_the_log_is_named_before_anything_changes(store: Store) -> None:
    log = store.local / "operation" / "forgotten" / "log.jsonl"
    log.mkdir(parents=True)
    with pytest.raises(NoteDamagedError, match=r"log\.jsonl is a folder"):
        forget(store, [GONE])
    assert is_interrupted(store)
    assert GONE in users_of(store)
    log.rmdir()
    forget(store, [])
    assert GONE not in users_of(store)


@pytest.mark.parametrize("content", [b'{"hashes": [', b'{"hashes": [], "version": 2}'])
def test_a_list_that_cannot_be_read_is_named(store: Store, content: bytes) -> None:
    write_note(store, "forgotten/hashes.json", content)
    with pytest.raises(NoteDamagedError, match=r"forgotten/hashes\.json.* backup"):
        forget(store, [GONE])
    assert GONE in users_of(store)
