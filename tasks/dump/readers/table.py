"""What every reader of a dump's table gives: its columns' names, then its rows in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from artifacts import columns as col

ROW = "row"
"""The place of a row in its file: 0 is the first after the header."""

BROKEN_SCHEMA = pl.Schema({ROW: pl.Int64, col.REASON: pl.String})


@dataclass(frozen=True)
class Batch:
    """Some rows of a table in the file's order.

    ``rows`` has `ROW` and the asked columns that the file has, values as found (text where the
    file has no types). ``broken`` has `BROKEN_SCHEMA`: rows that could not be parsed at all.
    ``repaired`` are the places of rows in which a quotation mark that nothing closes is text.
    """

    rows: pl.DataFrame
    broken: pl.DataFrame
    repaired: tuple[int, ...] = ()


@dataclass
class Tally:
    """What a file holds, counted while it is read; complete when the last batch was taken.

    Attributes:
        records: the file's rows, those that cannot be parsed included.
        lines: line ends counted in the file's bytes, None where its form knows no lines.
        header, blank: lines that are no records.
        continued: lines of records beyond their first.
        said: what was read otherwise than it is written, one sentence each.
    """

    records: int = 0
    lines: int | None = None
    header: int = 0
    blank: int = 0
    continued: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def missing_lines(self) -> int:
        """Lines of the file that are neither a record's nor known not to be one: 0 always."""
        if self.lines is None:
            return 0
        return self.lines - self.header - self.blank - self.records - self.continued


class Table(Protocol):
    """A file of rows, read in batches."""

    names: tuple[str, ...]
    """The columns found, under the file's names."""

    @property
    def tally(self) -> Tally:
        """Returns what the last pass of `batches` counted."""
        ...

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Gives the file's columns (keys), renamed to the values. Raises `UnreadableDumpError`."""
        ...


def broken_rows(places: list[int], reasons: list[str]) -> pl.DataFrame:
    """Returns the ``broken`` part of a batch."""
    return pl.DataFrame({ROW: places, col.REASON: reasons}, schema=BROKEN_SCHEMA)


def numbered(rows: pl.DataFrame, first: int) -> pl.DataFrame:
    """Returns rows with their place, where none between them was broken."""
    return rows.with_columns(pl.int_range(first, first + rows.height, dtype=pl.Int64).alias(ROW))
