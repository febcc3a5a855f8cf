"""Accounts of every row of every input file: kept, dropped by a named rule, or quarantined.

Rows in the file and rows processed by ingest are counted independently; no dataset is stored if
they differ.
"""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from tasks.dump.readers.table import Tally

ACCOUNT_SCHEMA = pl.Schema(
    {
        "file": pl.String,
        "holds": pl.String,
        "lines": pl.Int64,
        "header": pl.Int64,
        "blank": pl.Int64,
        "continued": pl.Int64,
        "rows": pl.Int64,
        "kept": pl.Int64,
        "rule": pl.String,
        "gone": pl.Int64,
    }
)
"""One row per file and rule; a file without dropped rows has one row without a rule. ``lines`` are
null for formats without lines, else header, blank, rows, and lines that ``continue`` a multi-line
row."""


class LostRowsError(RuntimeError):
    """Rows of a file are lost, or neither kept nor counted as dropped: a defect of the program."""


@dataclass
class FileAccount:
    """Account of one file. ``gone`` counts dropped rows by rule, ``set_aside`` the quarantined ones
    among them."""

    file: str
    holds: str
    tally: Tally = field(default_factory=Tally)
    kept: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def gone(self) -> Counter[str]:
        return self.set_aside + self.dropped

    def drop(self, rule: str, rows: int) -> None:
        """Counts kept rows that a rule drops."""
        self.kept -= rows
        self.dropped[rule] += rows

    def require_balance(self) -> None:
        """Raises `LostRowsError` for an unaccounted row or line of the file."""
        rows = self.tally.records - self.kept - sum(self.gone.values())
        for what, missing in (("rows", rows), ("lines", self.tally.missing_lines)):
            if missing:
                raise LostRowsError(
                    f"{self.file}: {missing:,} {what} are not accounted for ({self.tally}, kept "
                    f"{self.kept:,}, excluded {dict(self.gone)}). This is a defect of llm4cdsr, "
                    "not of the file: no dataset was made; please report it"
                )


def table_of(accounts: list[FileAccount]) -> pl.DataFrame:
    """Returns all accounts as a table (`ACCOUNT_SCHEMA`)."""
    rows = [
        {
            "file": account.file,
            "holds": account.holds,
            "lines": account.tally.lines,
            "header": account.tally.header,
            "blank": account.tally.blank,
            "continued": account.tally.continued,
            "rows": account.tally.records,
            "kept": account.kept,
            "rule": rule,
            "gone": gone,
        }
        for account in accounts
        for rule, gone in sorted(account.gone.items()) or [(None, 0)]
    ]
    return pl.DataFrame(rows, schema=ACCOUNT_SCHEMA)
