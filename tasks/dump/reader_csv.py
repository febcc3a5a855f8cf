"""CSV and TSV: every value as text, rows with too many or too few fields set aside one by one."""

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from tasks.dump.batch import ROW, Batch, broken_rows
from tasks.dump.files import UnreadableDump, open_utf8, readable

BLOCK_BYTES = 1 << 24
"""Also the longest row that can be read: 16 MiB."""

NOT_UTF8 = "not UTF-8"
_FIRST_DATA_LINE = 2


class CsvTable:
    """A file of separated values, gzipped or not, as a `Table`. Its first line names the columns.

    The separator of a .csv is the one of ``, ; tab`` that its header has most of.
    """

    def __init__(self, path: str, separator: str | None = None) -> None:
        self._path = path
        with readable(path), open_utf8(path) as file:
            header = file.readline(BLOCK_BYTES)
        if _decoded(header) is None:
            raise UnreadableDump(
                f"{path} cannot be read: its header {header[:80]!r} is not UTF-8; save it as UTF-8"
            )
        self._separator = separator or max(",;\t", key=lambda mark: header.count(mark.encode()))
        with readable(path), self._open(header, {}, _Skipped()) as reader:
            self.names = tuple(reader.schema.names)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        skipped = _Skipped()
        good = 0
        with readable(self._path), open_utf8(self._path) as file:
            with self._open(file, columns, skipped) as reader:
                for batch in reader:
                    yield _batch(batch, columns, skipped, good)
                    good += batch.num_rows
            if skipped.fresh():
                rows = pl.DataFrame(
                    schema={ROW: pl.Int64, **dict.fromkeys(columns.values(), pl.String)}
                )
                yield Batch(rows, skipped.taken())

    def _open(
        self, file: object, columns: Mapping[str, str], skipped: "_Skipped"
    ) -> pc.CSVStreamingReader:
        if isinstance(file, bytes):
            file = pa.BufferReader(file)
        return pc.open_csv(
            file,
            read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pc.ParseOptions(
                delimiter=self._separator,
                newlines_in_values=True,
                invalid_row_handler=skipped.skip,
            ),
            # Ids keep their leading zeros only as text; numbers are cast where needed. As bytes
            # first: one row that is not UTF-8 must not cost the others.
            convert_options=pc.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.binary()),
                include_columns=list(columns) or None,
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )


class _Skipped:
    """Rows that have another number of fields than the header, as the parser meets them."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._reasons: list[str] = []
        self._told = 0

    def skip(self, row: pc.InvalidRow) -> str:
        self._places.append((row.number or _FIRST_DATA_LINE) - _FIRST_DATA_LINE)
        self._reasons.append(_reason(row))
        return "skip"

    def fresh(self) -> bool:
        return self._told < len(self._places)

    def taken(self) -> pl.DataFrame:
        """Returns the rows met since the last call."""
        start, self._told = self._told, len(self._places)
        return broken_rows(self._places[start:], self._reasons[start:])

    def places_of(self, first_good: int, count: int) -> np.ndarray:
        """Returns the places of ``count`` good rows, of which ``first_good`` others came before."""
        places = np.array(self._places, np.int64)
        good = np.arange(first_good, first_good + count)
        return good + np.searchsorted(places - np.arange(len(places)), good, side="right")


def _reason(row: pc.InvalidRow) -> str:
    """An unclosed quotation mark takes in all lines up to the next one: they are counted."""
    reason = f"{row.actual_columns} fields instead of {row.expected_columns}"
    lines = row.text.count("\n") + 1
    return reason if lines == 1 else f"{reason}, {lines:,} lines: a quotation mark not closed?"


def _batch(
    batch: pa.RecordBatch, columns: Mapping[str, str], skipped: _Skipped, first_good: int
) -> Batch:
    place = pa.array(skipped.places_of(first_good, batch.num_rows))
    broken = skipped.taken()
    texts, garbled = _texts(batch)
    rows = cast(pl.DataFrame, pl.from_arrow(texts.append_column(ROW, place)))
    if garbled.any():
        at = rows.filter(pl.Series(garbled))[ROW].to_list()
        broken = pl.concat([broken, broken_rows(at, [NOT_UTF8] * len(at))]).sort(ROW)
        rows = rows.filter(pl.Series(~garbled))
    return Batch(rows.rename(dict(columns)), broken)


def _texts(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, np.ndarray]:
    """Returns the columns as text, and which rows are not UTF-8 (null there)."""
    garbled = np.zeros(batch.num_rows, bool)
    columns = []
    for values in batch.columns:
        try:
            columns.append(values.cast(pa.string()))
        except pa.ArrowInvalid:
            decoded = [_decoded(value) for value in values.to_pylist()]
            garbled |= np.array([text is None for text in decoded])
            columns.append(pa.array(decoded, pa.string()))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names), garbled


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
