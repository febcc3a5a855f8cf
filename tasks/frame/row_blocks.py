"""Tables larger than memory: rows in a temporary file, read and written in blocks."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 131_072
"""Rows per row group."""


class RowFile:
    """Rows of one schema, appended as frames and read in blocks of whole frames. The unnamed file
    is deleted by the operating system when the process ends."""

    def __init__(self, schema: pl.Schema, folder: Path) -> None:
        self.schema = schema
        self.height = 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `__exit__`
        self._arrow = pl.DataFrame(schema=schema).to_arrow().schema
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, rows: pl.DataFrame) -> None:
        """Appends a frame, whose rows stay in one block."""
        if rows.is_empty():
            return
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, self._arrow)
        table = rows.select(list(self.schema)).cast(self.schema).rechunk().to_arrow()
        self._writer.write_table(table.cast(self._arrow))
        self.height += rows.height

    def blocks(self, rows: int) -> Iterator[pl.DataFrame]:
        """Yields all rows in order, in blocks of at least ``rows`` except the last."""
        if self._writer is None:
            return
        self._writer.close()
        self._file.seek(0)
        waiting: list[pl.DataFrame] = []
        with pa.ipc.open_stream(self._file) as reader:
            for batch in reader:
                waiting.append(pl.DataFrame(pa.Table.from_batches([batch])).cast(self.schema))
                if sum(frame.height for frame in waiting) >= rows:
                    yield pl.concat(waiting)
                    waiting = []
        if waiting:
            yield pl.concat(waiting)


def regrouped(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yields the rows of frames of any size in frames of ``rows``, the last one shorter."""
    waiting: list[pl.DataFrame] = []
    height = 0
    for frame in frames:
        waiting.append(frame)
        height += frame.height
        if height < rows:
            continue
        whole = pl.concat(waiting)
        cut = height - height % rows
        yield from whole[:cut].iter_slices(rows)
        waiting, height = [whole[cut:]], height - cut
    if height:
        yield pl.concat(waiting)


def write_blocks(path: Path, frames: Iterable[pl.DataFrame], schema: pl.Schema) -> None:
    """Writes frames as one Parquet file, independent of the sizes of frames."""
    arrow = pl.DataFrame(schema=schema).to_arrow().schema
    with pq.ParquetWriter(path, arrow, compression="zstd") as writer:
        for group in regrouped(frames, ROW_GROUP):
            table = group.select(list(schema)).cast(schema).rechunk().to_arrow()
            writer.write_table(table.cast(arrow), row_group_size=ROW_GROUP)
