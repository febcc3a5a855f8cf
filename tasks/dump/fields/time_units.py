"""Units of numeric times, and their conversion."""

from datetime import UTC, datetime
from enum import StrEnum
from time import time

import polars as pl

SECOND = 1_000_000
"""Internal resolution in microseconds, to keep sub-second order."""


class Unit(StrEnum):
    """Unit of numeric times, or format of compact dates."""

    SECONDS = "seconds since 1970"
    MILLISECONDS = "milliseconds since 1970"
    MICROSECONDS = "microseconds since 1970"
    NANOSECONDS = "nanoseconds since 1970"
    TICKS = "ticks of .NET (100 nanoseconds since the year 1)"
    FILETIME = "Windows file times (100 nanoseconds since 1601)"
    WEBKIT = "WebKit's microseconds since 1601"
    DAYS = "days since 1970"
    EXCEL_DAYS = "days as Excel counts them"
    COMPACT = "YYYYMMDD"
    COMPACT_HOUR = "YYYYMMDDhh"
    COMPACT_MINUTE = "YYYYMMDDhhmm"
    COMPACT_SECOND = "YYYYMMDDhhmmss"
    COMPACT_MILLISECOND = "YYYYMMDDhhmmssfff"


SIZES = {
    Unit.SECONDS: 1e11,
    Unit.MILLISECONDS: 1e14,
    Unit.MICROSECONDS: 1e17,
    Unit.NANOSECONDS: float("inf"),
}
"""Upper limit of numbers of each unit since 1970."""

SINCE = {
    Unit.TICKS: (10, 62_135_596_800),
    Unit.FILETIME: (10, 11_644_473_600),
    Unit.WEBKIT: (1, 11_644_473_600),
}
"""Ticks per microsecond, and seconds of the epoch before 1970."""

COMPACT = {
    Unit.COMPACT: (8, "%Y%m%d"),
    Unit.COMPACT_HOUR: (10, "%Y%m%d%H"),
    Unit.COMPACT_MINUTE: (12, "%Y%m%d%H%M"),
    Unit.COMPACT_SECOND: (14, "%Y%m%d%H%M%S"),
    Unit.COMPACT_MILLISECOND: (17, "%Y%m%d%H%M%S%3f"),
}
FIRST_COMPACT, LAST_COMPACT = 19_000_101, 21_001_232
DAY = 86_400
EXCEL_1970 = 25_569
_LARGEST_SECOND = 253_402_300_799  # End of the year 9999.


def latest() -> int:
    """Returns the last plausible time of an event, a day from now because of zones and clocks."""
    return int((time() + DAY) * SECOND)


def utc_text(microseconds: int) -> str:
    """Returns a time in microseconds since 1970 as text, to the second."""
    return datetime.fromtimestamp(int(microseconds) / SECOND, UTC).isoformat(" ", "seconds")


def number_of(column: pl.Expr, unit: Unit) -> pl.Expr:
    """Returns microseconds since 1970 (Int64) of a column of numbers in a unit, or of compact
    dates; null after the year 9999 and for what is no date."""
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
        case Unit.TICKS | Unit.FILETIME | Unit.WEBKIT:
            per_microsecond, before = SINCE[unit]
            moment = whole // per_microsecond - before * SECOND
        case Unit.DAYS | Unit.EXCEL_DAYS:
            since = number - (EXCEL_1970 if unit is Unit.EXCEL_DAYS else 0)
            within = pl.when(since.abs() * DAY <= _LARGEST_SECOND)
            # Excel's days are floats with a resolution of a millisecond.
            moment = within.then((since * DAY * 1_000).round().cast(pl.Int64, strict=False) * 1_000)
        case _:
            return _compact_moment(whole, unit)
    return pl.when(moment.abs() <= _LARGEST_SECOND * SECOND).then(moment)


def _compact_moment(whole: pl.Expr, unit: Unit) -> pl.Expr:
    _, written = COMPACT[unit]
    texts = whole.cast(pl.String)
    if unit is Unit.COMPACT_HOUR:
        texts, written = texts + "00", f"{written}%M"
    return texts.str.to_datetime(written, time_unit="us", strict=False).dt.epoch("us")


def compact_days(numbers: pl.Series, length: int) -> int:
    """Returns the number of integers of given length that begin with a valid date."""
    whole = numbers.filter(numbers == numbers.floor())
    tens = 10.0 ** (length - 8)
    day = (whole / tens).floor()
    rest = whole - day * tens
    month = (day / 100).floor() % 100
    is_day = (
        day.is_between(FIRST_COMPACT, LAST_COMPACT)
        & month.is_between(1, 12)
        & (day % 100).is_between(1, 31)
    )
    if length > 8:
        is_day &= rest < 24 * 10.0 ** (length - 10)
    return int(is_day.sum())
