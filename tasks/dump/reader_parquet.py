"""Parquet, a few row groups at a time."""

from collections.abc import Iterator, Mapping
from typing import cast

import polars as pl
import pyarrow.parquet as pq

from tasks.dump.batch import Batch, broken_rows, numbered
from tasks.dump.files import readable

BATCH_ROWS = 1 << 21
"""Large, as every batch of a large dump fetches all known ids into the cache once more."""


class ParquetTable:
    """A Parquet file as a `Table`."""

    def __init__(self, path: str) -> None:
        self._path = path
        with readable(path):
            self.names = tuple(pq.read_schema(path).names)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        first = 0
        with readable(self._path), pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                rows = cast(pl.DataFrame, pl.from_arrow(batch)).rename(dict(columns))
                yield Batch(numbered(rows, first), broken_rows([], []))
                first += rows.height
