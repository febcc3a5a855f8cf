"""Brings the columns that shops export to one form: ids as text, moments, texts, lists.

Each function returns an expression that is null where a value cannot be used.
"""

import math
from enum import StrEnum

import polars as pl

from artifacts import columns as col

SECOND = 1_000_000
"""Microseconds: inside, timestamps keep what sub-second order a dump has."""


class Unit(StrEnum):
    """What a number in a column of times counts, since 1970."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


_TOO_LARGE = {
    Unit.SECONDS: 1e11,
    Unit.MILLISECONDS: 1e14,
    Unit.MICROSECONDS: 1e17,
    Unit.NANOSECONDS: math.inf,
}
_LARGEST_SECOND = 253_402_300_799  # The last one of the year 9999.
_CONTAINER = r'^(\[(["\[{\d-]|null|true|false)|\{").*[\]}]$|^(\[\]|\{\})$'
"""A JSON list or object where an id should be."""

_UNCLEAN_ID = r"[\x00-\x1f\x7f]|^\s|\s$|^$|^[\[{]"
"""Whatever `identifier` would change matches; most files have no such id."""

_CONTROL = r"[\x00-\x1f\x7f]"
_CURRENCY = r"(?:US\$|[$€£¥])?\s*"
_PRICE = (
    rf"^\s*{_CURRENCY}(\d[\d,]*(?:\.\d+)?)(?:\s*(?:-|–|to)\s*{_CURRENCY}[\d.,]+)?"
    r"\s*(?:元|USD|EUR|€)?\s*$"
)
"""Of a range, its lower end."""

LONGEST_TEXT = 2_000
"""Characters kept of an item's text: far more than a prompt takes, far less than 100 KB."""

_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def identifier(schema: pl.Schema, name: str) -> pl.Expr:
    """Ids as text; leading zeros stay where the file has them as text. Control characters go."""
    column = pl.col(name)
    if schema[name].is_nested():
        return pl.lit(None, pl.String).alias(name)
    if schema[name].is_float():
        # A column of whole numbers with gaps is often stored as floats: 12.0 is the id 12.
        whole = pl.when(column == column.floor()).then(column.cast(pl.Int64, strict=False))
        column = pl.when(column.is_finite()).then(
            pl.coalesce(whole.cast(pl.String), column.cast(pl.String))
        )
    if not schema[name].is_numeric():
        column = column.cast(pl.String).str.replace_all(_CONTROL, "")
        column = pl.when(~column.str.contains(_CONTAINER)).then(column)
    return text(column).alias(name)


def identifiers(values: pl.Series) -> pl.Series:
    """Returns a column of ids as `identifier` makes them, at once where it would change none."""
    if values.dtype == pl.String and not values.str.contains(_UNCLEAN_ID).any():
        return values
    rows = values.to_frame()
    return rows.select(identifier(rows.schema, values.name)).to_series()


def text(column: pl.Expr) -> pl.Expr:
    """Text without blanks around it; null where nothing is left."""
    stripped = column.cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def unit_of(values: pl.Series) -> Unit | None:
    """Returns the unit of a column of times, None where it holds no number.

    A file has one unit; the median tells it, which no single odd row can move.
    """
    if values.dtype.is_temporal():
        return Unit.MICROSECONDS
    numbers = values.cast(pl.Float64, strict=False)
    size = numbers.filter(numbers.is_finite()).abs().median()
    if not isinstance(size, float):
        return None
    return next(unit for unit in Unit if size < _TOO_LARGE[unit])


def microseconds(values: pl.Series, unit: Unit) -> pl.Series:
    """Returns times as microseconds since 1970 UTC: from dates, ISO text, or numbers of a unit."""
    column = pl.col(values.name)
    if values.dtype.is_temporal():
        moment = column.cast(pl.Datetime("us")).dt.epoch("us")
    elif values.dtype == pl.String:
        moment = pl.coalesce(_number_of(column, unit), _iso_moment(column))
    else:
        moment = _number_of(column, unit)
    return values.to_frame().select(moment).to_series()


def _number_of(column: pl.Expr, unit: Unit) -> pl.Expr:
    number = column.cast(pl.Float64, strict=False)
    whole = pl.coalesce(column.cast(pl.Int64, strict=False), number.cast(pl.Int64, strict=False))
    match unit:
        case Unit.SECONDS:
            within = pl.when(number.abs() <= _LARGEST_SECOND)
            moment = within.then(number * SECOND).round().cast(pl.Int64, strict=False)
        case Unit.MILLISECONDS:
            moment = whole * 1_000
        case Unit.MICROSECONDS:
            moment = whole
        case Unit.NANOSECONDS:
            moment = whole // 1_000
    return pl.when(moment.abs() <= _LARGEST_SECOND * SECOND).then(moment)


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
        return _price(column, found).alias(name)
    if isinstance(found, pl.List):  # A text in paragraphs, as some shops export descriptions.
        column = column.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    return text(column.cast(pl.String).str.replace_all("\x00", "").str.head(LONGEST_TEXT)).alias(
        name
    )


def _price(column: pl.Expr, found: pl.DataType) -> pl.Expr:
    """A price as a number, also from "$3.50 - $7"; null where the text is no price."""
    if found.is_nested():
        return pl.lit(None, pl.Float64)
    number = column.cast(pl.Float64, strict=False)
    if found == pl.String:
        digits = column.str.extract(_PRICE).str.replace_all(",", "")
        number = pl.coalesce(number, digits.cast(pl.Float64, strict=False))
    return pl.when(number.is_finite()).then(number)


def _categories(column: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Categories as a list of texts: from a list, a list of paths, or text split at ``|``."""
    if not isinstance(found, pl.List):
        column = column.cast(pl.String).str.split("|")
    elif isinstance(found.inner, pl.List):
        column = column.list.eval(pl.element().explode())
    names = column.cast(pl.List(pl.String))
    return names.list.eval(text(pl.element()).drop_nulls())
