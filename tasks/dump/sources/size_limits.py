"""Limits of decompressed sizes, against decompression bombs.

A ratio limit and a total limit. The ratio is not applied below `FREE_BYTES`.
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.user_error import UserError
from tasks.dump.readers.table import LIST

RATIO_VARIABLE, SIZE_VARIABLE = "LLM4CDSR_DUMP_MAX_RATIO", "LLM4CDSR_DUMP_MAX_GB"
MAX_RATIO, MAX_GB = 200.0, 1_000.0
"""Text tables decompress to five to thirty times their size."""

FREE_BYTES = 1 << 28
BATCH_BYTES = 1 << 30
LEAST_ROWS = 1 << 10

_WIDTH = 8
"""Bytes of a non-text value."""

_SAFE_BYTES = 1 << 26
"""Upper bound of a column of a row group below which no closer check is needed."""


class UnpackedSizeError(UserError):
    """The decompressed size of a file exceeds the machine's limits."""


class UnpackedSize:
    """Counts decompressed bytes of a file."""

    def __init__(self, path: str) -> None:
        self._path, self._size = path, Path(path).stat().st_size
        self._limits = [
            (_limit(RATIO_VARIABLE, MAX_RATIO) * self._size, RATIO_VARIABLE),
            (_limit(SIZE_VARIABLE, MAX_GB) * 1e9, SIZE_VARIABLE),
        ]
        self.bytes = 0

    def add(self, count: int) -> None:
        """Raises `UnpackedSizeError` beyond a limit."""
        self.bytes += count
        for most, variable in self._limits:
            if self.bytes > most and (self.bytes > FREE_BYTES or variable == SIZE_VARIABLE):
                raise UnpackedSizeError(
                    f"{self._path} has {self._size:,} bytes and unpacks to "
                    f"{self.bytes:,} or more, over the limit of {most:,.0f}; if it is right, set "
                    f"{variable} higher on this machine"
                )


class LimitedFile(io.RawIOBase):
    """A decompressing file that ends with `UnpackedSizeError` beyond the limits."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._unpacked = file, UnpackedSize(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        block = self._file.read(len(target))
        self._unpacked.add(len(block))
        target[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()


def batch_rows(path: str, columns: Iterable[str], most: int) -> int:
    """Returns the number of rows of a Parquet file that fit into `BATCH_BYTES`.

    Repeated texts are stored once in the file but per row in memory, so the file's sizes are
    insufficient: for columns with long texts, lengths are summed.

    Raises:
        UnpackedSizeError: the total exceeds the limits.
    """
    wanted, unpacked, heaviest = set(map(_top, columns)), UnpackedSize(path), 0.0
    with pq.ParquetFile(path) as file:
        chunks = [
            (group, number)
            for group in range(file.num_row_groups)
            for number in range(file.metadata.num_columns)
            if _top(file.metadata.row_group(group).column(number).path_in_schema) in wanted
        ]
        stored = (file.metadata.row_group(group).column(number) for group, number in chunks)
        UnpackedSize(path).add(sum(chunk.total_uncompressed_size for chunk in stored))
        sizes: dict[int, int] = {}
        for group, number in chunks:
            size = _unpacked_bytes(path, file, group, number)
            unpacked.add(size)
            sizes[group] = sizes.get(group, 0) + size
        for group, size in sizes.items():
            heaviest = max(heaviest, size / max(1, file.metadata.row_group(group).num_rows))
    return max(LEAST_ROWS, min(most, int(BATCH_BYTES / max(heaviest, 1.0))))


def _unpacked_bytes(path: str, file: pq.ParquetFile, group: int, number: int) -> int:
    """Returns an upper bound for a column of a row group, or its exact size if the bound is
    large."""
    chunk = file.metadata.row_group(group).column(number)
    if chunk.physical_type != "BYTE_ARRAY":
        return chunk.num_values * _WIDTH
    if not any("DICTIONARY" in encoding for encoding in chunk.encodings):
        return chunk.total_uncompressed_size
    longest = _longest_text(path, group, chunk.path_in_schema)
    bound = chunk.num_values * longest + chunk.total_uncompressed_size
    return bound if bound <= _SAFE_BYTES else _text_bytes(path, group, chunk.path_in_schema)


def _longest_text(path: str, group: int, column: str) -> int:
    """Returns the longest text of the dictionary, read with the first row."""
    with pq.ParquetFile(path, read_dictionary=[column]) as file:
        first = next(file.iter_batches(1, row_groups=[group], columns=[column]), None)
    if first is None or not isinstance(texts := _innermost(first.column(0)), pa.DictionaryArray):
        return 0
    return int(cast(int | None, _lengths(texts.dictionary).max()) or 0)


def _text_bytes(path: str, group: int, column: str) -> int:
    total = 0
    with pq.ParquetFile(path, read_dictionary=[column]) as file:
        for batch in file.iter_batches(1 << 20, row_groups=[group], columns=[column]):
            texts = _innermost(batch.column(0))
            if isinstance(texts, pa.DictionaryArray):
                lengths = _lengths(texts.dictionary).gather(_series(texts.indices))
            else:
                lengths = _lengths(texts)
            total += int(lengths.sum())
    return total


def _lengths(texts: pa.Array) -> pl.Series:
    """Returns the length of each value in bytes."""
    series = _series(texts)
    lengths = (
        series.bin.size() if series.dtype == pl.Binary else series.cast(pl.String).str.len_bytes()
    )
    return lengths.cast(pl.Int64)


def _series(values: pa.Array) -> pl.Series:
    return cast(pl.Series, pl.from_arrow(values))


def _innermost(values: pa.Array) -> pa.Array:
    """Returns the texts of a column that was read for one leaf."""
    while pa.types.is_nested(values.type):
        inner = values.field(0) if pa.types.is_struct(values.type) else values.flatten()
        values = inner
    return values


def _top(path_in_schema: str) -> str:
    return path_in_schema.split(".", 1)[0].removesuffix(LIST)


def _limit(variable: str, default: float) -> float:
    given = os.environ.get(variable)
    if given is None:
        return default
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UnpackedSizeError(
            f"{variable}={given!r} is no number above 0; unset it or correct it"
        )
    return limit
