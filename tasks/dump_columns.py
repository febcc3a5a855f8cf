"""Brings the columns that shops export to one form: ids as text, moments, texts, lists.

Each function returns an expression that is null where a value cannot be used.
"""

import polars as pl

from artifacts import columns as col

SECOND = 1_000_000
"""Microseconds: inside, timestamps keep what sub-second order a dump has."""

_LARGEST_SECOND = 253_402_300_799  # The last one of the year 9999.
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def identifier(schema: pl.Schema, name: str) -> pl.Expr:
    """Ids as text; leading zeros stay where the file has them as text."""
    column = pl.col(name)
    if schema[name].is_float():
        # A column of whole numbers with gaps is often stored as floats: 12.0 is the id 12.
        whole = pl.when(column == column.floor()).then(column.cast(pl.Int64, strict=False))
        column = pl.when(column.is_finite()).then(
            pl.coalesce(whole.cast(pl.String), column.cast(pl.String))
        )
    return text(column).alias(name)


def text(column: pl.Expr) -> pl.Expr:
    """Text without blanks around it; null where nothing is left."""
    stripped = column.cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def microseconds(dtype: pl.DataType) -> pl.Expr:
    """The timestamp column as microseconds since 1970 UTC: from dates, ISO text, or numbers in
    s, ms, us or ns."""
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
    cleaned = (
        column.str.strip_chars().str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    )
    zoned = cleaned.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
    plain = [
        cleaned.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
        for form in _ISO_FORMATS
    ]
    return pl.coalesce(zoned.dt.convert_time_zone("UTC"), *plain).dt.epoch("us")


def item_column(schema: pl.Schema, name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of the items file as ``dtype``; all null where the file lacks it."""
    if name not in schema:
        return pl.lit(None, dtype).alias(name)
    column, found = pl.col(name), schema[name]
    if name in (col.DOMAIN, col.ITEM_ID):
        return identifier(schema, name)
    if name == col.CATEGORIES:
        return _categories(column, found).alias(name)
    if name == col.PRICE:
        price = column.cast(dtype, strict=False)
        return pl.when(price.is_finite()).then(price).alias(name)
    if isinstance(found, pl.List):  # A text in paragraphs, as some shops export descriptions.
        column = column.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    return text(column).alias(name)


def _categories(column: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Categories as a list of texts: from a list, a list of paths, or text split at ``|``."""
    if not isinstance(found, pl.List):
        column = column.cast(pl.String).str.split("|")
    elif isinstance(found.inner, pl.List):
        column = column.list.eval(pl.element().explode())
    names = column.cast(pl.List(pl.String))
    return names.list.eval(text(pl.element()).drop_nulls())
