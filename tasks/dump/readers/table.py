"""Protocol of table readers: column names, then rows in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from artifacts import columns as col

ROW = "row"
"""Row number in its file: 0 is the first after the header."""

LIST = "[]"
"""Behind the name of a list of objects, before the names of their fields."""

BROKEN_SCHEMA = pl.Schema({ROW: pl.Int64, col.REASON: pl.String})


@dataclass(frozen=True)
class Batch:
    """Some rows of a table in the file's order.

    ``rows``: `ROW` and the selected columns, with raw values (text for formats without types).
    ``broken``: unparsable rows (`BROKEN_SCHEMA`). ``repaired``: places of rows with an unclosed
    quotation mark read as text.
    """

    rows: pl.DataFrame
    broken: pl.DataFrame
    repaired: tuple[int, ...] = ()


@dataclass
class Tally:
    """Counts of a file, complete after the last batch.

    Attributes: records: rows of the file, including unparsable ones. lines: line ends in the file's
        bytes, None for formats without lines. header, blank: lines without records. continued:
        further lines of multi-line records. said: sentences about reinterpretations.
    """

    records: int = 0
    lines: int | None = None
    header: int = 0
    blank: int = 0
    continued: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def missing_lines(self) -> int:
        """Returns the number of unaccounted lines, which must be 0."""
        if self.lines is None:
            return 0
        return self.lines - self.header - self.blank - self.records - self.continued


class Table(Protocol):
    """A file of rows, read in batches."""

    names: tuple[str, ...]
    """Columns by the file's names."""

    @property
    def tally(self) -> Tally:
        """Returns the counts of the last pass of `batches`."""
        ...

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yields the file's columns (keys), renamed to the values. Raises `UnreadableDumpError`."""
        ...


def broken_rows(places: list[int], reasons: list[str]) -> pl.DataFrame:
    """Returns the ``broken`` part of a batch."""
    return pl.DataFrame({ROW: places, col.REASON: reasons}, schema=BROKEN_SCHEMA)


class PartitionedTable:
    """A `Table` with an additional column per partition, unless the file has it."""

    def __init__(self, table: Table, partition: Mapping[str, str | None]) -> None:
        self._table = table
        self._added = {name: value for name, value in partition.items() if name not in table.names}
        self.names = (*table.names, *self._added) if table.names else ()

    @property
    def tally(self) -> Tally:
        return self._table.tally

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        of_file = {theirs: ours for theirs, ours in columns.items() if theirs not in self._added}
        added = [
            pl.lit(value, pl.String).alias(columns[name])
            for name, value in self._added.items()
            if name in columns
        ]
        for batch in self._table.batches(of_file):
            yield Batch(batch.rows.with_columns(added), batch.broken, batch.repaired)
