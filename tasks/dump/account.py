"""What became of every row of every file of a dump: kept, dropped by a named rule, or set aside.

The file says how many rows it has; what ingest made of them is counted on its own. At the end the
two must be equal, or nothing is kept.
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
"""A file and a rule a row; a file of which nothing went has one row without a rule.

``lines`` are null where a file's form knows none: else they are header, blank, rows, and those
that ``continue`` a row over several lines.
"""


class LostRowsError(RuntimeError):
    """Rows of a file that are neither kept nor counted as gone: a fault of ours, never a dump's."""


@dataclass
class FileAccount:
    """One file: its rows as the file tells them, and where they went.

    ``gone`` counts rows by rule, ``set_aside`` those of them that could not be used.
    """

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
        """Counts rows that were kept so far and now go by a rule."""
        self.kept -= rows
        self.dropped[rule] += rows

    def require_balance(self) -> None:
        """Raises `LostRowsError` where a row, or a line, of the file is not accounted for."""
        rows = self.tally.records - self.kept - sum(self.gone.values())
        for what, missing in (("rows", rows), ("lines", self.tally.missing_lines)):
            if missing:
                raise LostRowsError(
                    f"{self.file}: {missing:,} {what} are not accounted for ({self.tally}, kept "
                    f"{self.kept:,}, gone {dict(self.gone)}). This is a fault of llm4cdsr and not "
                    "of the file: nothing was kept; please report it"
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
