"""CSV and TSV reader: all values as text; rows with a wrong number of fields are quarantined."""

from collections.abc import Iterator, Mapping
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from tasks.dump.account import LostRowsError
from tasks.dump.readers.column_types import NOT_UTF8, as_texts
from tasks.dump.readers.csv_header import read_header
from tasks.dump.readers.csv_records import RecordBlock, Records
from tasks.dump.readers.table import ROW, Batch, Tally, broken_rows
from tasks.dump.sources.files import Utf8File, readable

HEADER_AGAIN = "the header once more"


class CsvTable:
    """A CSV file, compressed or not, as a `Table`. Its first line names the columns.

    The separator of a .csv is the most frequent of ``, ; tab |`` in its header.
    """

    def __init__(self, path: str, separator: str | None = None) -> None:
        self._path = path
        self._header = read_header(path, separator)
        self.names = self._header.names
        self.tally = Tally()

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        header = self._header
        self.tally = tally = Tally(header=header.lines, blank=header.blank)
        with readable(self._path), Utf8File(self._path) as file:
            left = header.length
            while left and (skipped := file.read(left)):
                left -= len(skipped)
            records = Records(file, self._path, header.shape)
            unclosed = 0
            for block in records.blocks():
                unclosed += len(block.repaired)
                yield self._batch(block, columns)
            tally.records, tally.continued = records.counts.records, records.counts.continued
            tally.blank += records.counts.blank
            tally.lines = file.lines
        if header.comments:
            tally.said.append(
                f"lines above the header that begin with # are left out ({header.comments:,})"
            )
        if unclosed:
            tally.said.append(
                f"quotation marks that nothing closes, in {unclosed:,} rows, are read as text"
            )
        if header.shape.quoting.backslash:
            tally.said.append("a backslash before a quotation mark makes it part of the text")

    def _batch(self, block: RecordBlock, columns: Mapping[str, str]) -> Batch:
        table = self._parsed(block.content, columns)
        if table.num_rows != len(block.places):
            raise LostRowsError(
                f"{self._path}: {len(block.places):,} records became {table.num_rows:,} rows. This "
                "is a defect of llm4cdsr, not of the file: no dataset was made; please report it"
            )
        broken = block.broken
        texts, garbled = as_texts(table)
        rows = cast(pl.DataFrame, pl.from_arrow(texts))
        rows = rows.with_columns(pl.Series(ROW, block.places, pl.Int64))
        if garbled.any():
            broken += [(place, NOT_UTF8) for place in rows.filter(pl.Series(garbled))[ROW]]
            rows = rows.filter(pl.Series(~garbled))
        again = pl.all_horizontal(pl.col(name) == name for name in columns)
        if (headers := rows.filter(again)).height:
            broken += [(place, HEADER_AGAIN) for place in headers[ROW]]
            rows = rows.filter(~again)
        broken.sort()
        return Batch(
            rows.rename(dict(columns)),
            broken_rows([place for place, _ in broken], [why for _, why in broken]),
            tuple(block.repaired),
        )

    def _parsed(self, content: bytes, columns: Mapping[str, str]) -> pa.Table:
        """Returns the selected columns as bytes."""
        if not content.strip(b"\r\n"):
            return pa.table({name: pa.array([], pa.binary()) for name in columns})
        numbers = [str(place) for place in range(len(self.names))]
        table = pc.read_csv(
            pa.BufferReader(content),
            read_options=pc.ReadOptions(
                use_threads=False, block_size=len(content) + 1, column_names=numbers
            ),
            parse_options=pc.ParseOptions(
                delimiter=self._header.shape.quoting.separator.decode("latin-1"),
                newlines_in_values=True,
            ),
            # Text keeps leading zeros of ids; numbers are cast later. Bytes first, so that a row
            # that is not UTF-8 does not affect others.
            convert_options=pc.ConvertOptions(
                column_types=dict.fromkeys(numbers, pa.binary()),
                include_columns=[numbers[self.names.index(name)] for name in columns],
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        return table.rename_columns(list(columns))
