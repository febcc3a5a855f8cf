"""Removed questions are in no file of a ledger; the others are answered as before."""

import json
from pathlib import Path

import polars as pl

from artifacts import columns as col
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.claims import PROMPT, Claims, questions
from artifacts.ledger.compaction import compact
from artifacts.ledger.ledger import Ledger
from artifacts.ledger.removal import remove

KEYS = [f"key-{number}" for number in range(12)]


def asked(ledger: Ledger, keys: list[str]) -> None:
    prompts = pl.DataFrame({col.KEY: keys, PROMPT: [f"prompt of {key}" for key in keys]})
    with Claims(ledger, "m", {}) as claims:
        claims.take(prompts)
        with ledger.journal("m") as journal:
            journal.append(*(Answer(key, f"answer to {key}", None, "stop", 1, 1) for key in keys))


def test_removed_keys_are_in_no_file_and_the_others_stay(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, Role.CHAT)
    for first in range(0, 12, 4):
        asked(ledger, KEYS[first : first + 4])
    batch = ledger.folder / "batches" / "b"
    batch.mkdir(parents=True)
    lines = [json.dumps({"custom_id": key, "body": f"prompt of {key}"}) + "\n" for key in KEYS]
    (batch / "requests.jsonl").write_text("".join(lines))
    aside = ledger.folder / "set-aside"
    aside.mkdir()
    (aside / "part-damaged.parquet").write_bytes(b"prompt of key-3")
    gone, kept = ["key-0", "key-3", "key-5", "no-such-key"], [KEYS[1], KEYS[2], *KEYS[6:]]
    assert remove(ledger, pl.Series(gone)) == 3 + 3 + 3
    answers = ledger.answers(pl.Series(KEYS))
    assert sorted(answers[col.KEY]) == sorted([KEYS[4], *kept])
    assert sorted(questions(ledger).collect()[col.KEY]) == sorted([KEYS[4], *kept])
    assert set(answers["text"]) == {f"answer to {key}" for key in answers[col.KEY]}
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for key in gone:
                assert f"of {key}".encode() not in content
                assert f"to {key}".encode() not in content
    assert remove(ledger, pl.Series(gone)) == 0
    compact(ledger)
    assert ledger.answers(pl.Series(KEYS)).height == 9


def test_a_file_whose_rows_all_go_goes_itself(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, Role.CHAT)
    asked(ledger, KEYS[:2])
    remove(ledger, pl.Series(KEYS))
    assert ledger.parts() == []
    assert ledger.missing(pl.Series(KEYS[:2])).to_list() == KEYS[:2]
