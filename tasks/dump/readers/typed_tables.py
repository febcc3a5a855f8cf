"""Readers of files with typed columns: Parquet by groups of rows, Arrow (Feather) by batches."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.dump.readers.column_types import NOT_UTF8, names_in, plain_columns, with_fields
from tasks.dump.readers.table import LIST, ROW, Batch, Tally, broken_rows
from tasks.dump.sources.files import OTHER_CONTENT, UnreadableDumpError, readable
from tasks.dump.sources.size_limits import UnpackedSize, batch_rows

_START = 4096

BATCH_ROWS = 1 << 21
"""Large, because every batch loads all known ids into the cache."""


class ParquetTable:
    """A Parquet file as a `Table`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.tally = Tally()
        with readable(path):
            _refuse_other(path)
            self.names = tuple(names_in(pq.read_schema(path)))

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        first = 0
        with readable(self._path), pq.ParquetFile(self._path) as file:
            self.tally = Tally(records=file.metadata.num_rows)
            rows_at_once = batch_rows(self._path, columns, BATCH_ROWS)
            read = list(dict.fromkeys(name.partition(LIST)[0] for name in columns))
            for batch in file.iter_batches(rows_at_once, columns=read):
                yield _typed_batch(batch, columns, self._path, first)
                first += batch.num_rows


class ArrowTable:
    """An Arrow file as a `Table`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.tally = Tally()
        with readable(path), pa.memory_map(path) as file:
            self.names = tuple(names_in(pa.ipc.open_file(file).schema))

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        self.tally = Tally()
        unpacked = UnpackedSize(self._path)
        with readable(self._path), pa.memory_map(self._path) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)  # Offsets of a damaged file would end the process.
                unpacked.add(batch.nbytes)
                yield _typed_batch(batch, columns, self._path, self.tally.records)
                self.tally.records += batch.num_rows


def _typed_batch(batch: pa.RecordBatch, columns: Mapping[str, str], path: str, first: int) -> Batch:
    """Returns some typed rows as plain ones, numbered from ``first``."""
    table = with_fields(pa.Table.from_batches([batch]), columns)
    rows, garbled = plain_columns(table, columns, path)
    rows = rows.with_columns(pl.int_range(first, first + pl.len()).alias(ROW))
    broken = rows.filter(pl.Series(garbled))[ROW].to_list()
    if broken:
        rows = rows.filter(pl.Series(~garbled))
    return Batch(rows, broken_rows(broken, [NOT_UTF8] * len(broken)))


def _refuse_other(path: str) -> None:
    """Raises `UnreadableDumpError` for a file that is not Parquet."""
    with Path(path).open("rb") as file:
        start = file.read(_START)
    if start.startswith(b"PAR"):  # Encrypted files begin with PARE.
        return
    if not start:
        raise UnreadableDumpError(f"{path} cannot be read: it is empty; export it again")
    what = next((what for mark, what in OTHER_CONTENT.items() if start.startswith(mark)), None)
    if what is None and start.lstrip()[:1] in (b"{", b"["):
        what = "JSON: give it the ending .jsonl"
    elif what is None and start.isascii() and b"\x00" not in start:
        what = "text: give it the ending of its form, such as .csv"
    if what is not None:
        raise UnreadableDumpError(f"{path} cannot be read: its content is {what}")
