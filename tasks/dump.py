"""Reads a user's dump: files of interactions and of items, in the forms that shops export.

Everything is read as it lies, then brought to the columns of `artifacts.columns`. Rows that
cannot be used are set aside with their reason, never dropped silently.
"""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from artifacts import columns as col
from tasks.dump_columns import identifier, item_column, microseconds
from tasks.dump_files import UnreadableDump, scan_table

INTERACTION_COLUMNS = (col.USER_ID, col.ITEM_ID, col.DOMAIN, col.TIMESTAMP)
ITEM_KEY = (col.DOMAIN, col.ITEM_ID)

ITEM_SCHEMA: dict[str, pl.DataType] = {
    col.ITEM_ID: pl.String(),
    col.DOMAIN: pl.String(),
    col.TITLE: pl.String(),
    col.BRAND: pl.String(),
    col.CATEGORIES: pl.List(pl.String()),
    col.PRICE: pl.Float64(),
    col.DESCRIPTION: pl.String(),
}


class Repeats(StrEnum):
    """What counts when a user chose an item more than once (METHOD 7.17)."""

    KEEP = "keep"
    FIRST = "first"


class DumpConfig(BaseModel):
    """Which dump to read, and what of it to keep."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interactions: str = Field(
        description="Parquet, CSV or JSON-lines file with user_id, item_id, domain and timestamp "
        "(seconds, or milli- or microseconds, since 1970, a date type, or ISO dates as text; UTC "
        "where no zone is named); a .gz of the latter two is read too."
    )
    items: str | None = Field(
        default=None,
        description="File with item_id, domain, title and what else is known: brand, categories, "
        "price, description. Items without a row take part without text.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the files that differ from ours, as {'reviewerID': 'user_id'}.",
    )
    domains: tuple[str, ...] | None = Field(
        default=None, description="Keep only these domains; all by default."
    )
    max_users: int | None = Field(
        default=None, ge=1, description="Keep a seeded sample of this many users; all by default."
    )
    user_core: int = Field(
        default=1, ge=1, description="Keep users with at least this many events (>=)."
    )
    item_core: int = Field(
        default=1,
        ge=1,
        description="Keep events of items with at least this many events (>=). The items stay in "
        "the catalogue: they can be recommended by their text.",
    )
    repeats: Repeats = Field(
        default=Repeats.KEEP,
        description="'keep' every event, or only a user's 'first' event of each item.",
    )
    seed: int = Field(default=0, description="Chooses the sample of users.")


@dataclass(frozen=True)
class RawDump:
    """The usable rows, and those set aside.

    ``interactions`` has `INTERACTION_COLUMNS` and ``row``, the row's place in the file;
    timestamps are microseconds since 1970 UTC here, `SECOND` of them to a second.
    ``items`` has the columns of `ITEM_SCHEMA`, one row an item. ``quarantine`` has ``source``,
    ``row``, ``reason`` and the offending row's ids as text.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    quarantine: pl.DataFrame
    rows_in: int


QUARANTINE_SCHEMA = pl.Schema(
    {
        "source": pl.String,
        "row": pl.Int64,
        col.REASON: pl.String,
        col.USER_ID: pl.String,
        col.ITEM_ID: pl.String,
        col.DOMAIN: pl.String,
    }
)


def read_dump(config: DumpConfig) -> RawDump:
    """Reads both files; raises `UnreadableDump` with the way out."""
    interactions, bad_events = _read_interactions(config)
    items, bad_items = _read_items(config)
    return RawDump(
        interactions=interactions,
        items=items,
        quarantine=pl.concat([bad_events, bad_items]),
        rows_in=interactions.height + bad_events.height,
    )


def _read_interactions(config: DumpConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    table = _renamed(config.interactions, config.columns, required=INTERACTION_COLUMNS)
    schema = table.collect_schema()
    rows = _collect(
        table.select(
            identifier(schema, col.USER_ID),
            identifier(schema, col.ITEM_ID),
            identifier(schema, col.DOMAIN),
            microseconds(schema[col.TIMESTAMP]).alias(col.TIMESTAMP),
        ).with_row_index("row"),
        config.interactions,
    ).with_columns(pl.col("row").cast(pl.Int64))
    reason = _first_reason(
        {
            "no user_id": pl.col(col.USER_ID).is_null(),
            "no item_id": pl.col(col.ITEM_ID).is_null(),
            "no domain": pl.col(col.DOMAIN).is_null(),
            "no usable timestamp": pl.col(col.TIMESTAMP).is_null(),
        }
    )
    return _set_aside(rows, reason, "interactions")


def _read_items(config: DumpConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    if config.items is None:
        return pl.DataFrame(schema=ITEM_SCHEMA), pl.DataFrame(schema=QUARANTINE_SCHEMA)
    table = _renamed(config.items, config.columns, required=ITEM_KEY)
    schema = table.collect_schema()
    rows = _collect(
        table.select(item_column(schema, name, dtype) for name, dtype in ITEM_SCHEMA.items())
        .with_row_index("row")
        .with_columns(pl.col("row").cast(pl.Int64), pl.lit(None, pl.String).alias(col.USER_ID)),
        config.items,
    )
    reason = _first_reason(
        {
            "no item_id": pl.col(col.ITEM_ID).is_null(),
            "no domain": pl.col(col.DOMAIN).is_null(),
            "item described more than once": ~pl.struct(ITEM_KEY).is_first_distinct(),
        }
    )
    usable, bad = _set_aside(rows, reason, "items")
    return usable.select(list(ITEM_SCHEMA)), bad


def _renamed(path: str, columns: dict[str, str], required: tuple[str, ...]) -> pl.LazyFrame:
    table = scan_table(path)
    try:
        table = table.rename(columns, strict=False)
        found = table.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise UnreadableDump(f"{path} cannot be read: {error}") from error
    absent = [name for name in required if name not in found]
    if absent:
        raise UnreadableDump(
            f"{path} has no column {', '.join(absent)} (it has {', '.join(found)}); "
            "name them in `columns`, for example --column reviewerID=user_id"
        )
    return table


def _collect(table: pl.LazyFrame, path: str) -> pl.DataFrame:
    try:
        return table.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableDump(f"{path} cannot be read: {error}") from error


def _first_reason(rules: dict[str, pl.Expr]) -> pl.Expr:
    return pl.coalesce(pl.when(broken).then(pl.lit(name)) for name, broken in rules.items())


def _set_aside(
    rows: pl.DataFrame, reason: pl.Expr, source: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    judged = rows.with_columns(reason.alias(col.REASON))
    bad = judged.filter(pl.col(col.REASON).is_not_null())
    usable = judged.filter(pl.col(col.REASON).is_null()).drop(col.REASON)
    named = bad.with_columns(pl.lit(source).alias("source"))
    return usable, named.select(list(QUARANTINE_SCHEMA)).cast(QUARANTINE_SCHEMA)
