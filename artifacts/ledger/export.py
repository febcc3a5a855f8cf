"""Statistics and export of a ledger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts import columns as col
from artifacts.ledger.answers import ANSWERED_AT, KEY_SCHEMA, MODEL, Role, scan_parts
from artifacts.ledger.check import repeated_keys
from artifacts.ledger.claims import PARAMETERS, PROMPT, QUESTION_SCHEMA, questions
from artifacts.ledger.ledger import Ledger
from artifacts.user_error import UserError

Write = Callable[[pl.DataFrame], None]

FIRST = "first"
LAST = "last"
CUT = "cut"


class UnknownFormError(UserError, ValueError):
    """Unsupported format of an export."""


@dataclass(frozen=True)
class LedgerStats:
    """``models``: ``model, answers, cut, prompt_tokens, completion_tokens, first, last``.

    ``bytes``: of all files; ``journals``: number of unsealed journals.
    """

    models: pl.DataFrame
    parts: int
    journals: int
    questions: int
    bytes: int


def stats_of(ledger: Ledger) -> LedgerStats:
    """Returns the statistics of one role, without answers in open journals."""
    with ledger.reading() as parts:
        models = (
            parts.group_by(MODEL)
            .agg(
                pl.len().alias("answers"),
                (pl.col("finish_reason") == "length").sum().alias(CUT),
                pl.col("prompt_tokens", "completion_tokens").sum(),
                pl.col(ANSWERED_AT).min().alias(FIRST),
                pl.col(ANSWERED_AT).max().alias(LAST),
            )
            .sort("answers", MODEL, descending=[True, False])
            .collect(engine="streaming")
        )
        return LedgerStats(
            models=models,
            parts=len(ledger.parts()),
            journals=len(list(ledger.folder.glob("journal-*.jsonl"))),
            questions=questions(ledger).select(pl.len()).collect().item(),
            bytes=sum(path.stat().st_size for path in ledger.folder.iterdir() if path.is_file()),
        )


def export(ledger: Ledger, target: Path) -> int:
    """Writes every answer once, with its prompt if recorded; returns their number.

    Columns ``key, model, parameters, prompt``, then ``text`` or ``vector`` (a list of float32),
    ``finish_reason, prompt_tokens, completion_tokens, answered_at``. The target's suffix selects
    the format: .parquet or .jsonl.

    Raises:
        UnknownFormError: another suffix.
    """
    writers = {".parquet": _parquet, ".jsonl": _json_lines}
    if target.suffix not in writers:
        raise UnknownFormError(f"{target} cannot be written; end it in {' or '.join(writers)}")
    partial = target.with_name(f".{target.name}.tmp")
    nothing = (
        scan_parts([])
        .collect()
        .join(pl.DataFrame(schema=QUESTION_SCHEMA).drop(MODEL), on=col.KEY, how="left")
    )
    schema = _readable(nothing, ledger.role).to_arrow().schema
    rows = 0
    with writers[target.suffix](partial, schema) as write:
        for table in _tables(ledger):
            write(table)
            rows += table.height
    partial.replace(target)
    return rows


def _tables(ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Yields one part at a time, to limit memory."""
    with ledger.reading():
        found = (rows.select(col.KEY) for rows in repeated_keys(ledger))
        repeated = pl.concat([pl.DataFrame(schema=KEY_SCHEMA), *found])
        seen = repeated.clear()
        asked = questions(ledger).select(col.KEY, PARAMETERS, PROMPT)
        for part in ledger.parts():
            rows = (
                scan_parts([part])
                .collect()
                .unique(col.KEY, maintain_order=True)
                .join(seen, on=col.KEY, how="anti")
            )
            seen = pl.concat([seen, repeated.join(rows, on=col.KEY, how="semi")])
            mine = asked.join(rows.lazy().select(col.KEY), on=col.KEY, how="semi")
            recorded = mine.collect(engine="streaming").unique(col.KEY)
            yield _readable(rows.join(recorded, on=col.KEY, how="left"), ledger.role)


def _readable(rows: pl.DataFrame, role: Role) -> pl.DataFrame:
    answer = rows["text"] if role is Role.CHAT else _lists(rows["vector"])
    return rows.select(
        col.KEY,
        MODEL,
        PARAMETERS,
        PROMPT,
        answer,
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        ANSWERED_AT,
    )


def _lists(vectors: pl.Series) -> pl.Series:
    """Returns packed float32 as lists; widths may differ within a part."""
    ends = (vectors.bin.size() // 4).cum_sum().to_numpy()
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int64))
    numbers = pa.array(np.frombuffer(b"".join(vectors.to_list()), dtype="<f4"))
    return pl.Series(vectors.name, pa.LargeListArray.from_arrays(offsets, numbers))


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield lambda table: writer.write_table(table.to_arrow().cast(schema))


@contextmanager
def _json_lines(path: Path, schema: pa.Schema) -> Iterator[Write]:
    with path.open("wb") as file:
        yield lambda table: table.write_ndjson(file)
