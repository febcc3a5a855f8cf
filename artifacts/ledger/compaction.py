"""Compaction of small ledger parts into large ones, safe beside running readers and writers.

A merged part replaces its oldest source before the other sources are deleted. Parts therefore still
sort by age, and a key that occurs twice keeps the same answer. A process that is killed in between
leaves some answers twice, which readers allow and the next compaction merges.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts import columns as col
from artifacts.files.durable import sync
from artifacts.files.ownership import locked
from artifacts.ledger.answers import KEY_SCHEMA, PART_SCHEMA
from artifacts.ledger.claims import QUESTION_SCHEMA
from artifacts.ledger.ledger import SWAP_LOCK, Ledger

PART_BYTES = 256 << 20
"""Target size of merged parts; parts over half of it are not merged."""

ROW_GROUP = 16_384

MERGED = ".merged-"
"""Prefix of merged files before the swap."""

_COMPACTION_LOCK = ".compaction.lock"
_EARLIER_PLAN = ".compaction.json"
"""Written by earlier versions before they deleted sources; the sources are merged again."""

_SCHEMAS = {"part": PART_SCHEMA, "questions": QUESTION_SCHEMA}


@dataclass(frozen=True)
class Compacted:
    """Files before and after, and duplicate rows of merged files."""

    files_before: int
    files_after: int
    duplicates_dropped: int


def compact(ledger: Ledger, part_bytes: int = PART_BYTES) -> Compacted:
    """Merges small parts and small prompt records; idempotent.

    Raises:
        pyarrow.ArrowInvalid, OSError: a part cannot be read; it is not changed.
    """
    ledger.recover()
    with nobody_compacts(ledger):
        before = len(_files(ledger, "part")) + len(_files(ledger, "questions"))
        dropped = 0
        for kind in _SCHEMAS:
            for group in _small_neighbours(_files(ledger, kind), part_bytes):
                dropped += _merge(ledger, kind, group)
        after = len(_files(ledger, "part")) + len(_files(ledger, "questions"))
    return Compacted(before, after, dropped)


@contextmanager
def nobody_compacts(ledger: Ledger) -> Iterator[None]:
    """Excludes compactions during a block; deletes files that a killed one has left."""
    with locked(ledger.folder / _COMPACTION_LOCK, fcntl.LOCK_EX):
        for pattern in (f"{MERGED}*.tmp", f"*{_EARLIER_PLAN}*"):
            for leftover in ledger.folder.glob(pattern):
                leftover.unlink()
        yield


def _files(ledger: Ledger, kind: str) -> list[Path]:
    return sorted(ledger.folder.glob(f"{kind}-*.parquet"))


def _small_neighbours(paths: list[Path], part_bytes: int) -> Iterator[list[Path]]:
    """Yields groups of files adjacent in age with a total below the target size."""
    group: list[Path] = []
    size = 0
    for path in paths:
        bytes_here = path.stat().st_size
        is_large = bytes_here > part_bytes // 2
        if is_large or size + bytes_here > part_bytes:
            if len(group) > 1:
                yield group
            group, size = [], 0
        if not is_large:
            group.append(path)
            size += bytes_here
    if len(group) > 1:
        yield group


def _merge(ledger: Ledger, kind: str, sources: list[Path]) -> int:
    """Merges files in order of age, keeping the oldest row per key; returns the number of
    duplicates."""
    merged = ledger.folder / f"{MERGED}{sources[0].stem}.tmp"
    dropped = _write_merged(sources, merged, _SCHEMAS[kind])
    sync(merged)
    oldest, *others = sources
    with locked(ledger.folder / SWAP_LOCK, fcntl.LOCK_EX):
        merged.replace(oldest)
        sync(ledger.folder)  # The merged rows are on disk before their sources are deleted.
        for source in others:
            source.unlink()
    return dropped


def _write_merged(sources: list[Path], merged: Path, schema: pl.Schema) -> int:
    seen = pl.DataFrame(schema=KEY_SCHEMA)
    dropped = 0
    arrow = pl.DataFrame(schema=schema).to_arrow().schema
    with pq.ParquetWriter(merged, arrow, compression="zstd", write_page_checksum=True) as writer:
        for rows in _batches(sources, schema):
            fresh = rows.unique(col.KEY, keep="first", maintain_order=True)
            fresh = fresh.join(seen, on=col.KEY, how="anti", maintain_order="left")
            seen = pl.concat([seen, fresh.select(col.KEY)])
            dropped += rows.height - fresh.height
            writer.write_table(fresh.to_arrow().cast(arrow))
    return dropped


def _batches(sources: list[Path], schema: pl.Schema) -> Iterator[pl.DataFrame]:
    """Yields the rows of files in order, in blocks of about `ROW_GROUP`."""
    waiting: list[pl.DataFrame] = []
    for source in sources:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                waiting.append(_as(pa.Table.from_batches([batch]), schema))
                if sum(rows.height for rows in waiting) >= ROW_GROUP:
                    yield pl.concat(waiting)
                    waiting = []
    if waiting:
        yield pl.concat(waiting)


def _as(table: pa.Table, schema: pl.Schema) -> pl.DataFrame:
    """Returns a table with the columns of a schema; missing ones are null."""
    rows = pl.DataFrame(table)
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in rows]
    return rows.with_columns(absent).select(list(schema)).cast(schema)
