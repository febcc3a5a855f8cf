"""What reading events and reading items have in common: columns by name, rows set aside.

Nothing is lost without a count: a row is usable, or in the quarantine with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl

from artifacts import columns as col
from tasks.dump.batch import ROW, Table
from tasks.dump.files import UnreadableDump

SOURCE = "source"

QUARANTINE_SCHEMA = pl.Schema(
    {
        SOURCE: pl.String,
        ROW: pl.Int64,
        col.REASON: pl.String,
        col.USER_ID: pl.String,
        col.ITEM_ID: pl.String,
        col.DOMAIN: pl.String,
    }
)

QUARANTINE_ROWS = 1_000_000
"""Kept to be looked at; all are counted."""


class Quarantine:
    """Rows that cannot be used: counted by source and reason, the first ones kept."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._kept: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, source: str, rows: pl.DataFrame) -> None:
        """Takes rows of `QUARANTINE_SCHEMA`; columns that they lack are null."""
        if rows.is_empty():
            return
        for reason, count in rows[col.REASON].value_counts().iter_rows():
            self.counts[source, reason] += count
        named = rows.head(QUARANTINE_ROWS - self._rows).select(
            pl.lit(source).alias(SOURCE),
            *(
                pl.col(name).cast(dtype)
                if name in rows.columns
                else pl.lit(None, dtype).alias(name)
                for name, dtype in QUARANTINE_SCHEMA.items()
                if name != SOURCE
            ),
        )
        self._kept.append(named)
        self._rows += named.height

    def table(self) -> pl.DataFrame:
        """Returns the kept rows (`QUARANTINE_SCHEMA`)."""
        kept = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *self._kept])
        return kept.sort(SOURCE, ROW)


def parted(rows: pl.DataFrame, rules: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns the rows that break no rule, and the others with the first rule they break."""
    reason = pl.coalesce(pl.when(broken).then(pl.lit(name)) for name, broken in rules.items())
    judged = rows.with_columns(reason.alias(col.REASON))
    is_good = judged[col.REASON].is_null()
    return judged.filter(is_good).drop(col.REASON), judged.filter(~is_good)


def renamed(
    path: str,
    table: Table,
    names: Mapping[str, str],
    needed: Iterable[str],
    wanted: Iterable[str],
) -> dict[str, str]:
    """Returns which of the file's columns (keys) are read as which of ours (values).

    Raises:
        UnreadableDump: a needed column is not there, two columns would be the same, or there is
            none at all.
    """
    if not table.names:
        raise UnreadableDump(
            f"{path} cannot be read: no row of it has the form that its name says; give it the "
            "ending of its real form"
        )
    ours = {theirs: names.get(theirs, theirs) for theirs in table.names}
    wanted = {*wanted, *needed}
    chosen = {theirs: name for theirs, name in ours.items() if name in wanted}
    doubled = [name for name, count in Counter(chosen.values()).items() if count > 1]
    if doubled:
        both = ", ".join(theirs for theirs, name in chosen.items() if name == doubled[0])
        raise UnreadableDump(f"{path}: the columns {both} would all be {doubled[0]}; name one")
    absent = [name for name in needed if name not in chosen.values()]
    if absent:
        raise UnreadableDump(
            f"{path} has no column {', '.join(absent)} (it has {', '.join(table.names)}); "
            f"if {absent[0]} is there under another name, say so: --column THEIR_NAME={absent[0]}"
        )
    return chosen
