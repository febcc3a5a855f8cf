"""Many small parts of a ledger become few large ones, while runs write and read beside.

A merged part takes the place of its oldest source, so parts still sort by age and a key that
stands twice keeps the same answer. What is to be swapped is noted before (`_Plan`): a process
that dies in between leaves a plan that the next compaction finishes, and until then readers see
some answers twice, which they are made for.
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
from artifacts.files.durable import sync, write_atomically
from artifacts.files.ownership import locked
from artifacts.ledger.answers import PART_SCHEMA
from artifacts.ledger.claims import QUESTION_SCHEMA
from artifacts.ledger.ledger import SWAP_LOCK, Ledger
from artifacts.strict import Strict

PART_BYTES = 256 << 20
"""What a merged part grows to; parts over half of it are left as they are."""

ROW_GROUP = 16_384

MERGED = ".merged-"
"""How the name of a merged file begins that has not taken its place yet."""

_COMPACTION_LOCK = ".compaction.lock"
_PLAN = ".compaction.json"
_SCHEMAS = {"part": PART_SCHEMA, "questions": QUESTION_SCHEMA}


@dataclass(frozen=True)
class Compacted:
    """Files before and after, and how many rows stood twice in files that were merged."""

    files_before: int
    files_after: int
    duplicates_dropped: int


class _Plan(Strict):
    """A swap that is decided: the merged file is whole, its sources may go."""

    merged: str
    target: str
    sources: tuple[str, ...]


def compact(ledger: Ledger, part_bytes: int = PART_BYTES) -> Compacted:
    """Merges small parts and small records of questions; a second call finds nothing to do.

    Raises:
        pyarrow.ArrowInvalid, OSError: a part cannot be read; nothing was changed for it.
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
    """Keeps compactions away for a block; what a dead one has left is finished or removed."""
    with locked(ledger.folder / _COMPACTION_LOCK, fcntl.LOCK_EX):
        finish_swap(ledger)
        for pattern in (f"{MERGED}*.tmp", f".{_PLAN}.*.tmp"):
            for leftover in ledger.folder.glob(pattern):
                leftover.unlink()  # Of a compaction that died before it had a plan.
        yield


def finish_swap(ledger: Ledger) -> None:
    """Carries out a plan that stands written; each step may already have been done."""
    plan_file = ledger.folder / _PLAN
    if not plan_file.exists():
        return
    plan = _Plan.model_validate_json(plan_file.read_bytes())
    with locked(ledger.folder / SWAP_LOCK, fcntl.LOCK_EX):
        merged = ledger.folder / plan.merged
        if merged.exists():
            merged.replace(ledger.folder / plan.target)
        for source in plan.sources:
            (ledger.folder / source).unlink(missing_ok=True)
        plan_file.unlink()


def _files(ledger: Ledger, kind: str) -> list[Path]:
    return sorted(ledger.folder.glob(f"{kind}-*.parquet"))


def _small_neighbours(paths: list[Path], part_bytes: int) -> Iterator[list[Path]]:
    """Yields runs of files next to each other by age that together stay below a part's size."""
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
    """Merges files in order of age; of rows with one key the oldest stays. Returns the others."""
    merged = ledger.folder / f"{MERGED}{sources[0].stem}.tmp"
    dropped = _write_merged(sources, merged, _SCHEMAS[kind])
    sync(merged)
    target, *others = (source.name for source in sources)
    plan = _Plan(merged=merged.name, target=target, sources=tuple(others))
    write_atomically(ledger.folder / _PLAN, plan.model_dump_json().encode())
    finish_swap(ledger)
    return dropped


def _write_merged(sources: list[Path], merged: Path, schema: pl.Schema) -> int:
    seen = pl.DataFrame(schema={col.KEY: pl.String})
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
    """Yields the rows of files in order, about `ROW_GROUP` at a time, however small the files."""
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
    """Returns a table with the columns of a schema; one that its file lacks is null."""
    rows = pl.DataFrame(table)
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in rows]
    return rows.with_columns(absent).select(list(schema)).cast(schema)
