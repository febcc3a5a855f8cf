"""What every reader of a dump's table gives: its columns' names, then its rows in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    """

    rows: pl.DataFrame
    broken: pl.DataFrame


class Table(Protocol):
    """A file of rows, read in batches."""

    names: tuple[str, ...]
    """The columns found, under the file's names."""

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Gives the file's columns (keys), renamed to the values. Raises `UnreadableDump`."""
        ...


def broken_rows(places: list[int], reasons: list[str]) -> pl.DataFrame:
    """Returns the ``broken`` part of a batch."""
    return pl.DataFrame({ROW: places, col.REASON: reasons}, schema=BROKEN_SCHEMA)


def numbered(rows: pl.DataFrame, first: int) -> pl.DataFrame:
    """Returns rows with their place, where none between them was broken."""
    return rows.with_columns(pl.int_range(first, first + rows.height, dtype=pl.Int64).alias(ROW))
