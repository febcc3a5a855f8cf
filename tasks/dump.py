"""Reads a user's dump: files of interactions and of items, in the forms that shops export.

Everything is read as it lies, then brought to the columns of `artifacts.columns`. Rows that
cannot be used are set aside with their reason, never dropped silently.
"""

import gzip
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from artifacts import columns as col

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


SECOND = 1_000_000
"""Microseconds: inside, timestamps keep what sub-second order a dump has."""

_LARGEST_SECOND = 253_402_300_799  # The last one of the year 9999.
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


class UnreadableDump(ValueError):
    """A dump's file is missing, damaged, of an unknown form, or lacks a column."""


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


def existing_file(path: str) -> Path:
    """Returns the path of a file; raises `UnreadableDump` where there is none."""
    if not Path(path).is_file():
        raise UnreadableDump(f"{path} is not a file; give the path of a Parquet, CSV or JSONL file")
    return Path(path)


def scan_table(path: str) -> pl.LazyFrame:
    """Returns a file of a known form as a lazy table; raises `UnreadableDump`."""
    existing_file(path)
    name = path.lower().removesuffix(".gz")
    try:
        if name.endswith((".parquet", ".pq")):
            return pl.scan_parquet(path, glob=False)
        if name.endswith((".csv", ".tsv")):
            # Ids keep their leading zeros only as text; numbers are cast where they are needed.
            separator = "\t" if name.endswith(".tsv") else _separator(path)
            return pl.read_csv(
                _plain(path), separator=separator, infer_schema=False, glob=False
            ).lazy()
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return pl.read_ndjson(_plain(path), infer_schema_length=None).lazy()
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        raise UnreadableDump(f"{path} cannot be read: {error}") from error
    raise UnreadableDump(f"{path}: form not known; use .parquet, .csv, .tsv or .jsonl (or .gz)")


def _read_interactions(config: DumpConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    table = _renamed(config.interactions, config.columns, required=INTERACTION_COLUMNS)
    schema = table.collect_schema()
    rows = _collect(
        table.select(
            _identifier(schema, col.USER_ID),
            _identifier(schema, col.ITEM_ID),
            _identifier(schema, col.DOMAIN),
            _microseconds(schema[col.TIMESTAMP]).alias(col.TIMESTAMP),
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
        table.select(_item_column(schema, name, dtype) for name, dtype in ITEM_SCHEMA.items())
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


def _plain(path: str) -> str | bytes:
    """Returns a .gz file's content whole: a torn one must be an error, not fewer rows."""
    if not path.lower().endswith(".gz"):
        return path
    with gzip.open(path) as file:
        return file.read()


def _separator(path: str) -> str:
    with gzip.open(path) if path.lower().endswith(".gz") else Path(path).open("rb") as file:
        header = file.readline()
    return max(",;\t", key=lambda separator: header.count(separator.encode()))


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


def _identifier(schema: pl.Schema, name: str) -> pl.Expr:
    column = pl.col(name)
    if schema[name].is_float():
        # A column of whole numbers with gaps is often stored as floats: 12.0 is the id 12.
        whole = pl.when(column == column.floor()).then(column.cast(pl.Int64, strict=False))
        column = pl.when(column.is_finite()).then(
            pl.coalesce(whole.cast(pl.String), column.cast(pl.String))
        )
    return _text(column).alias(name)


def _text(column: pl.Expr) -> pl.Expr:
    """Text without blanks around it; null where nothing is left."""
    text = column.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _microseconds(dtype: pl.DataType) -> pl.Expr:
    column = pl.col(col.TIMESTAMP)
    if dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("us")
    number = column.cast(pl.Float64, strict=False)
    whole = pl.coalesce(column.cast(pl.Int64, strict=False), number.cast(pl.Int64, strict=False))
    # A file has one unit; the median tells it, which no single odd row can move.
    size = pl.when(number.is_finite()).then(number.abs()).median()
    moment = (
        pl.when(size < 1e11)
        .then(pl.when(number.abs() <= _LARGEST_SECOND).then(number * SECOND).round())
        .when(size < 1e14)
        .then(whole * 1_000)
        .when(size < 1e17)
        .then(whole)
        .otherwise(whole // 1_000)
        .cast(pl.Int64, strict=False)
    )
    usable = pl.when(moment.abs() <= _LARGEST_SECOND * SECOND).then(moment)
    return pl.coalesce(usable, _iso_moment(column)) if dtype == pl.String else usable


def _iso_moment(column: pl.Expr) -> pl.Expr:
    text = column.str.strip_chars().str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    zoned = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
    plain = [
        text.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
        for form in _ISO_FORMATS
    ]
    return pl.coalesce(zoned.dt.convert_time_zone("UTC"), *plain).dt.epoch("us")


def _item_column(schema: pl.Schema, name: str, dtype: pl.DataType) -> pl.Expr:
    if name not in schema:
        return pl.lit(None, dtype).alias(name)
    column, found = pl.col(name), schema[name]
    if name in ITEM_KEY:
        return _identifier(schema, name)
    if name == col.CATEGORIES:
        return _categories(column, found).alias(name)
    if name == col.PRICE:
        price = column.cast(dtype, strict=False)
        return pl.when(price.is_finite()).then(price).alias(name)
    if isinstance(found, pl.List):  # A text in paragraphs, as some shops export descriptions.
        column = column.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    return _text(column).alias(name)


def _categories(column: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Categories as a list of texts: from a list, a list of paths, or text split at ``|``."""
    if not isinstance(found, pl.List):
        column = column.cast(pl.String).str.split("|")
    elif isinstance(found.inner, pl.List):
        column = column.list.eval(pl.element().explode())
    names = column.cast(pl.List(pl.String))
    return names.list.eval(_text(pl.element()).drop_nulls())


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
