"""Quarantine of rows: counts by source and reason, and the first rows."""

from collections import Counter
from collections.abc import Callable, Mapping

import polars as pl

from artifacts import columns as col
from tasks.dump.readers.table import ROW

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
"""Maximum stored rows; all are counted."""


AreForgotten = Callable[[pl.Series], pl.Series]
"""Tests ids for forgotten users; returns booleans."""


def nobody(user_ids: pl.Series) -> pl.Series:
    """Returns False for all ids."""
    return pl.repeat(False, len(user_ids), eager=True)


class Quarantine:
    """Unusable rows: counts by source and reason, and the first rows."""

    def __init__(self, forgotten: AreForgotten = nobody) -> None:
        self._forgotten = forgotten
        self.counts: Counter[tuple[str, str]] = Counter()
        self._kept: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, source: str, rows: pl.DataFrame) -> None:
        """Adds rows of `QUARANTINE_SCHEMA`; missing columns are null."""
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

    def absorb(self, other: "Quarantine") -> None:
        """Adds the content of another quarantine."""
        self.counts += other.counts
        for rows in other._kept:
            self._kept.append(rows.head(QUARANTINE_ROWS - self._rows))
            self._rows += self._kept[-1].height

    def table(self) -> pl.DataFrame:
        """Returns the stored rows (`QUARANTINE_SCHEMA`)."""
        kept = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *self._kept])
        kept = kept.filter(~self._forgotten(kept[col.USER_ID]))
        return kept.sort(SOURCE, ROW, maintain_order=True)


def parted(rows: pl.DataFrame, rules: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns the valid rows, and the others with the first violated rule."""
    reason = pl.coalesce(pl.when(broken).then(pl.lit(name)) for name, broken in rules.items())
    judged = rows.with_columns(reason.alias(col.REASON))
    is_good = judged[col.REASON].is_null()
    return judged.filter(is_good).drop(col.REASON), judged.filter(~is_good)
