"""Removal of prompts and their answers from all files of a ledger."""

import fcntl
import json
import shutil
from pathlib import Path

import polars as pl

from artifacts import columns as col
from artifacts.files.durable import sync, write_atomically
from artifacts.files.ownership import locked
from artifacts.ledger.answers import KEY_SCHEMA, scan_parts
from artifacts.ledger.claims import questions
from artifacts.ledger.compaction import nobody_compacts
from artifacts.ledger.journal import OUTBOX, write_part
from artifacts.ledger.ledger import SWAP_LOCK, Ledger
from artifacts.ledger.repair import SET_ASIDE


def remove(ledger: Ledger, keys: pl.Series) -> int:
    """Removes keys from sealed parts, prompt records and batch requests; returns the number of
    removed rows. Quarantined damaged files are deleted; if a record of prompts is among them, all
    answers without a record are removed as well, because their prompts are unknown.

    Journals must be sealed (`Ledger.recover`), and no run may be sending these keys.
    """
    aside = ledger.folder / SET_ASIDE
    if any(not path.name.startswith(("part-", "journal-")) for path in aside.glob("*")):
        keys = pl.concat([keys, _unrecorded(ledger)])
    if aside.exists():
        shutil.rmtree(aside)
    if keys.is_empty():
        return 0
    wanted = keys.unique().to_frame(col.KEY)
    gone = 0
    with nobody_compacts(ledger), locked(ledger.folder / SWAP_LOCK, fcntl.LOCK_EX):
        for path in _all_parts(ledger):
            rows = scan_parts([path]).collect()
            gone += _replaced(path, rows, wanted, is_part=True)
        for path in sorted(ledger.folder.glob("questions-*.parquet")):
            gone += _replaced(path, pl.read_parquet(path, glob=False), wanted, is_part=False)
    for path in sorted(ledger.folder.glob("batches/*/requests.jsonl")):
        gone += _without_lines(path, set(keys))
    return gone


def _unrecorded(ledger: Ledger) -> pl.Series:
    """Returns the keys of answers whose prompts are in no record."""
    with ledger.reading() as parts:
        answered = parts.select(col.KEY).unique().collect()
    recorded = questions(ledger).select(col.KEY).unique().collect()
    return answered.join(recorded, on=col.KEY, how="anti")[col.KEY]


def all_keys(ledger: Ledger) -> pl.Series:
    """Returns the distinct keys of everything that `remove` changes but batch requests."""
    paths = [*_all_parts(ledger), *ledger.folder.glob("questions-*.parquet")]
    found = [pl.DataFrame(schema=KEY_SCHEMA)]
    found += [pl.read_parquet(path, columns=[col.KEY], glob=False) for path in paths]
    return pl.concat(found)[col.KEY].unique()


def _all_parts(ledger: Ledger) -> list[Path]:
    """Returns the sealed parts, also those that wait for their upload."""
    return [*ledger.parts(), *sorted((ledger.folder / OUTBOX).glob("part-*.parquet"))]


def _replaced(path: Path, rows: pl.DataFrame, wanted: pl.DataFrame, *, is_part: bool) -> int:
    kept = rows.join(wanted, on=col.KEY, how="anti", maintain_order="left")
    if kept.height == rows.height:
        return 0
    if kept.is_empty():
        path.unlink()
    else:
        partial = path.with_suffix(".removing")
        if is_part:
            write_part(kept, partial)
        else:
            kept.write_parquet(partial)
            sync(partial)
        partial.replace(path)
    sync(path.parent)
    return rows.height - kept.height


def _without_lines(path: Path, keys: set[str]) -> int:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line).get("custom_id") not in keys]
    if len(kept) < len(lines):
        write_atomically(path, b"".join(kept))
    return len(lines) - len(kept)
