"""Parquet, a few row groups at a time."""

from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.dump.files import readable
from tasks.dump.readers.column_types import plain_columns
from tasks.dump.readers.table import ROW, Batch, Tally, broken_rows, numbered
from tasks.dump.readers.texts import NOT_UTF8
from tasks.dump.size_limits import batch_rows

BATCH_ROWS = 1 << 21
"""Large, as every batch of a large dump fetches all known ids into the cache once more."""


class ParquetTable:
    """A Parquet file as a `Table`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.tally = Tally()
        with readable(path):
            self.names = tuple(pq.read_schema(path).names)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        first = 0
        with readable(self._path), pq.ParquetFile(self._path) as file:
            self.tally = Tally(records=file.metadata.num_rows)
            rows_at_once = batch_rows(self._path, columns, BATCH_ROWS)
            for batch in file.iter_batches(rows_at_once, columns=list(columns)):
                table = pa.Table.from_batches([batch])
                rows, garbled = plain_columns(table, columns, self._path)
                rows = numbered(rows, first)
                first += rows.height
                broken = rows.filter(pl.Series(garbled))[ROW].to_list()
                if broken:
                    rows = rows.filter(pl.Series(~garbled))
                yield Batch(rows, broken_rows(broken, [NOT_UTF8] * len(broken)))
