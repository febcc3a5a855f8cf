"""Parsing of times as text: ISO 8601 and variants, dates with slashes or dots, names of months.

Every format is a pattern with named groups, which are converted to times in one place.
"""

from enum import StrEnum

import polars as pl

_CLOCK = (
    r"(?:(?:[Tt_:]|,?\s+)(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})"
    r"(?:[.,:](?P<fraction>\d{1,9}))?)?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?"
)
_ZONE = (
    r"\s*(?:Z|z|UTC|GMT|UT)?\s*(?:(?P<zone>[+-]\d{2}(?::?\d{2})?(?::?\d{2})?)(?:\s+[A-Z]{2,5})?)?"
    r"(?:\[[^\]]*\]|\s*\([^)]*\))?"
)
_WEEKDAY = r"(?:[A-Za-z]{3,9}\.?,?\s+)?"
_DAY, _MONTH = r"(?P<day>\d{1,2})", r"(?P<month>\d{1,2})"
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_YEAR = r"(?P<year>\d{4})"
_SHORT_YEAR = r"(?P<year>\d{4}|\d{2})"


class TextForm(StrEnum):
    """Order of year, month and day in a text."""

    ISO = "iso"
    COMPACT = "compact"
    SLASHES = "slashes"
    DOTS = "dots"
    DAY_NAME = "day and name of month"
    NAME_DAY = "name of month and day"
    CTIME = "ctime"
    AMAZON = "amazon"
    OTHER = "other"


PATTERNS: dict[TextForm, str] = {
    TextForm.ISO: rf"^{_YEAR}[-/._年](?P<month>\d{{1,2}})[-/._月]{_DAY}日?{_CLOCK}{_ZONE}$",
    TextForm.COMPACT: (
        r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})[T ](?P<hour>\d{2}):?(?P<minute>\d{2})"
        rf"(?::?(?P<second>\d{{2}})(?:[.,](?P<fraction>\d{{1,9}}))?)?{_ZONE}$"
    ),
    TextForm.SLASHES: (
        r"^(?P<first>\d{1,2})[/-](?P<other>\d{1,2})[/-]" rf"{_SHORT_YEAR}{_CLOCK}{_ZONE}$"
    ),
    TextForm.DOTS: rf"^{_DAY}\.\s?{_MONTH}\.\s?{_SHORT_YEAR}{_CLOCK}{_ZONE}$",
    TextForm.DAY_NAME: (
        rf"^{_WEEKDAY}{_DAY}(?:st|nd|rd|th)?[ /-]{_NAME}[ ,/-]+{_SHORT_YEAR}{_CLOCK}{_ZONE}$"
    ),
    TextForm.NAME_DAY: (
        rf"^{_WEEKDAY}{_NAME}\s+{_DAY}(?:st|nd|rd|th)?,?\s+{_YEAR}{_CLOCK}{_ZONE}$"
    ),
    TextForm.CTIME: (
        rf"^[A-Za-z]{{3}}\s+{_NAME}\s+{_DAY}\s+(?P<hour>\d{{1,2}}):(?P<minute>\d{{2}}):"
        rf"(?P<second>\d{{2}})(?:\s+(?:UTC|GMT|(?P<zone>[+-]\d{{4}})))?\s+{_YEAR}$"
    ),
    TextForm.AMAZON: rf"^{_MONTH} {_DAY}, {_YEAR}$",
}
"""The first match applies. Two-digit years below 69 are in this century, as in POSIX."""

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MINUTE = 60_000_000


def forms_of(texts: pl.Series) -> pl.Series:
    """Returns the format of every text (String, a `TextForm`); null for null."""
    rows = pl.DataFrame({"text": texts.str.strip_chars()}).with_row_index("place")
    left, found = rows.drop_nulls("text"), []
    for form, pattern in PATTERNS.items():
        if left.is_empty():
            break
        matches = left["text"].str.contains(pattern)
        found.append(left.filter(matches).select("place", form=pl.lit(form.value)))
        left = left.filter(~matches)
    found.append(left.select("place", form=pl.lit(TextForm.OTHER.value)))
    return rows.join(pl.concat(found), on="place", how="left", maintain_order="left")["form"]


def days_named(texts: pl.Series) -> pl.DataFrame:
    """Returns ``first, other``, the two numbers before the year of texts with slashes."""
    parts = texts.str.strip_chars().str.extract_groups(PATTERNS[TextForm.SLASHES])
    return parts.struct.unnest().select(pl.col("first", "other").cast(pl.Int32))


def moments_of(texts: pl.Series, form: TextForm, *, day_first: bool) -> pl.Series:
    """Returns texts of one format as microseconds since 1970 UTC, null for invalid dates.

    Times without a zone are UTC.
    """
    groups = texts.str.strip_chars().str.extract_groups(PATTERNS[form]).struct.unnest()
    day, month = _day(form, day_first), _month(form, day_first)
    year, hour = pl.col("year").cast(pl.Int32), _hour(groups)
    short = pl.col("year").str.len_chars() == 2
    century = pl.when(short & (year < 69)).then(2000).when(short).then(1900).otherwise(0)
    written = pl.format(
        "{}-{}-{} {}:{}:{}.{}",
        (year + century).cast(pl.String).str.zfill(4),
        month.cast(pl.String).str.zfill(2),
        day.cast(pl.String).str.zfill(2),
        hour.cast(pl.String).str.zfill(2),
        _part(groups, "minute", "00"),
        _part(groups, "second", "00"),
        _part(groups, "fraction", "0"),
    )
    moment = written.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    return groups.select(moment.dt.epoch("us") - _offset(groups)).to_series()


def _part(groups: pl.DataFrame, name: str, otherwise: str) -> pl.Expr:
    return pl.col(name).fill_null(otherwise) if name in groups.columns else pl.lit(otherwise)


def _day(form: TextForm, day_first: bool) -> pl.Expr:
    if form is not TextForm.SLASHES:
        return pl.col("day").cast(pl.Int32)
    return pl.col("first" if day_first else "other").cast(pl.Int32)


def _month(form: TextForm, day_first: bool) -> pl.Expr:
    if form is TextForm.SLASHES:
        return pl.col("other" if day_first else "first").cast(pl.Int32)
    if form in (TextForm.DAY_NAME, TextForm.NAME_DAY, TextForm.CTIME):
        name = pl.col("name").str.head(3).str.to_lowercase()
        return name.replace_strict(_MONTHS, default=None, return_dtype=pl.Int32)
    return pl.col("month").cast(pl.Int32)


def _hour(groups: pl.DataFrame) -> pl.Expr:
    """Returns the 24-hour value of an hour with AM or PM."""
    if "hour" not in groups.columns:
        return pl.lit(0)
    hour = pl.col("hour").cast(pl.Int32).fill_null(0)
    if "half" not in groups.columns:
        return hour
    half = pl.col("half").str.head(1).str.to_lowercase()
    of_half = pl.when(hour <= 12).then(hour % 12 + pl.when(half == "p").then(12).otherwise(0))
    return pl.when(half.is_null()).then(hour).otherwise(of_half)


def _offset(groups: pl.DataFrame) -> pl.Expr:
    """Returns the UTC offset in microseconds."""
    if "zone" not in groups.columns:
        return pl.lit(0)
    digits = pl.col("zone").str.replace_all(":", "", literal=True)
    hours = digits.str.slice(1, 2).cast(pl.Int64)
    minutes = pl.when(digits.str.len_chars() > 3).then(digits.str.slice(3, 2)).cast(pl.Int64)
    size = (hours * 60 + minutes.fill_null(0)) * _MINUTE
    return pl.when(digits.str.starts_with("-")).then(-size).otherwise(size).fill_null(0)
