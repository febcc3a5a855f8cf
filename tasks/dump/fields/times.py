"""Normalisation of times: detection of units and of the order of day and month.

Detected over the whole column: the unit by the size of most numbers, compact dates, and the order
of day and month by days above twelve. An implausible column is refused with an example.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import polars as pl

from tasks.dump.fields.field import FieldReader
from tasks.dump.fields.text_times import TextForm, days_named, forms_of, moments_of
from tasks.dump.fields.time_units import (
    COMPACT,
    DAY,
    EXCEL_1970,
    FIRST_COMPACT,
    LAST_COMPACT,
    SECOND,
    SINCE,
    SIZES,
    Unit,
    compact_days,
    latest,
    number_of,
    utc_text,
)

DATED = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp()) * SECOND
"""If a file's dates are after this, times of zero or less are missing."""

_EARLIEST = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp()) * SECOND
"""Dates before this are of another calendar."""

SURE_SHARE = 0.99
"""Share of values that decides the format of a column."""


_USUAL_TEXT = (
    r"^\s*\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?)?\s*$"
)
_ROUNDED = r"^\d(?:[.,]\d{1,7})?[eE]\+?\d+$"
"""Numbers with fewer digits than times have."""

_YEAR_1970 = 365 * DAY
IN_1970 = _YEAR_1970 * SECOND
"""End of 1970. If dates are later and finer than seconds, a time before has another unit."""

_FIRST_DAY = 20 * 365 + 5  # 1990-01-01, from 1970 on.
_SMALL = 1_000
_FEW_SECONDS = 60
_MANY = 100
_DENSE = 5
"""Implausible number of events per second over a dump."""
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class TimeForm:
    """Format of a column of times; ``is_dated``: after 1980, so zero is missing."""

    unit: Unit = Unit.SECONDS
    day_first: bool = False
    is_dated: bool = False


@dataclass
class TimeField(FieldReader):
    """Reads a column of times; ``form`` is None before the first values."""

    form: TimeForm | None = None

    values: int = 0
    numbers: Counter[Unit] = field(default_factory=Counter)
    texts: Counter[TextForm] = field(default_factory=Counter)
    day_first: int = 0
    month_first: int = 0
    moments: int = 0
    dated: int = 0
    implausible: int = 0
    early: int = 0
    """Times in 1970, as of seconds among milliseconds."""
    shown: dict[str, str] = field(default_factory=dict)
    _sizes: Counter[Unit] = field(default_factory=Counter)
    _in_1970: int = 0
    _zeros: int = 0
    _has_other_texts: bool = False
    _has_blanks: bool = False
    _span_1970: tuple[float, float] = (float("inf"), 0.0)
    _span: tuple[int, int] | None = None

    def read(self, values: pl.Series) -> pl.Series:
        """Returns microseconds since 1970 UTC, null for other values."""
        self.values += len(values) - values.null_count()
        if values.dtype == pl.String and values.str.contains(r"^\s|\s$").any():
            self._has_blanks = True
            values = values.str.strip_chars()
        if not values.dtype.is_temporal():
            numbers = values.cast(pl.Float64, strict=False)
            self._see_numbers(numbers.filter(numbers.is_finite()))
            if values.dtype == pl.String:
                self._see_texts(values.filter(values.is_not_null() & numbers.is_null()))
        found = moments_in(values, self.form or self.found())
        self._see_moments(found)
        self.implausible += self._show(
            "implausible", values, (found < _EARLIEST) | (found > latest())
        )
        if self.is_finer:
            self.early += self._show("early", values, (found > 0) & (found < IN_1970))
        is_known = values.is_not_null()
        if values.dtype == pl.String:
            is_known &= values != ""
            self._show("rounded", values, values.str.contains(_ROUNDED))
        self._show("unread", values, is_known & found.is_null())
        if self.form is None and self.values:
            self.form = self.found()
        return found

    def is_settled(self) -> bool:
        return self.form is None or self.found() == self.form

    def fresh(self) -> Self:
        return type(self)(self.found())

    def found(self) -> TimeForm:
        """Returns the format of all values so far."""
        return TimeForm(
            self._unit(),
            day_first=self.day_first > self.month_first,
            is_dated=self.dated > 0 and 2 * self.dated >= self.moments - self._zeros,
        )

    @property
    def is_dated(self) -> bool:
        """Returns whether times of zero or less are missing."""
        return (self.form or self.found()).is_dated

    @property
    def is_finer(self) -> bool:
        """Returns whether a time in 1970 is one of seconds among milliseconds, or alike."""
        form = self.form or self.found()
        return form.is_dated and form.unit in SIZES and form.unit is not Unit.SECONDS

    @property
    def is_order(self) -> bool:
        """Returns whether the numbers are small order numbers instead of dates."""
        return self._is_in_1970() and self._begins_near_zero()

    @property
    def any_number(self) -> str:
        """Returns a number of the column for messages."""
        return self.shown.get("number", "0")

    def is_repaired(self) -> bool:
        is_counted = bool(self.numbers) and self.found().unit not in SIZES
        is_other = self.is_dated and 2 * self.dated < self.moments  # Zeros were times.
        is_other |= self.early > 0 and self.is_finer
        return is_counted or self._has_other_texts or self._has_blanks or is_other

    def fault(self) -> str | None:
        """Returns the reason of an unreadable column with an example, None if it is readable."""
        if not self.values:
            return "is empty in all rows"
        if not self.moments:
            shown = self.shown.get("unread", "")
            return f"holds no time that can be read, such as {shown!r}; {_WAY}"
        either = self.texts[TextForm.SLASHES] - self.day_first - self.month_first
        if self.day_first and self.month_first:
            if min(self.day_first, self.month_first) > (1 - SURE_SHARE) * (
                self.day_first + self.month_first
            ):
                return (
                    f"has its day first in {self.shown['day']!r} and its month first in "
                    f"{self.shown['month']!r}; {_WAY}"
                )
        elif either and not (self.day_first or self.month_first):
            return (
                f"has days that can be read in two ways, such as {self.shown['either']!r}, and no "
                f"day above 12 shows which is meant; {_WAY}"
            )
        if self._is_in_1970() and not self._begins_near_zero():
            return (
                f"holds numbers such as {self.any_number!r} that are no days and, as seconds, "
                f"would all lie in 1970; {_WAY}"
            )
        if self.implausible >= SURE_SHARE * self.moments:
            return (
                f"holds times such as {self.shown['implausible']!r} that lie in the future or "
                f"before 1900; {_WAY}"
            )
        return self._fault_of_span()

    def notes(self) -> list[str]:
        """Returns notes about formats other than seconds, dates and ISO texts."""
        form, said = self.found(), []
        if self.numbers and form.unit not in SIZES:
            said.append(f"numbers such as {self.any_number!r} are read as {form.unit.value}")
        if self.is_order:
            said.append(
                f"small numbers such as {self.any_number!r} are read as an order of events, "
                "not as dates"
            )
        if self.texts[TextForm.SLASHES]:
            way = "the day" if form.day_first else "the month"
            said.append(f"dates such as {self.shown['slashes']!r} are read with {way} first")
        if "unread" in self.shown and self.moments:
            said.append(f"some values, such as {self.shown['unread']!r}, are no times")
        if "rounded" in self.shown:
            said.append(
                f"times such as {self.shown['rounded']!r} are rounded, as by a spreadsheet: export "
                "the column as text"
            )
        if self.implausible:
            odd = self.shown["implausible"]
            said.append(f"some values, such as {odd!r}, lie in the future or before 1900")
        if self.early and self.is_finer:
            said.append(f"some values, such as {self.shown['early']!r}, would lie in 1970")
        low, high = self._span or (0, 1)
        if low == high and self.moments >= _MANY:
            said.append("all times are equal: events are in the order of the file")
        return said

    def _show(self, name: str, values: pl.Series, are: pl.Series) -> int:
        """Keeps the first of some values for messages; returns how many there are."""
        chosen = values.filter(are)
        if len(chosen):
            self.shown.setdefault(name, str(chosen[0])[:_LONGEST_SHOWN])
        return len(chosen)

    def _see_moments(self, moments: pl.Series) -> None:
        self.moments += len(moments) - moments.null_count()
        dated = moments.filter(moments > DATED)
        self.dated += len(dated)
        if len(dated):
            low, high = self._span or (2**63, -(2**63))
            self._span = min(low, dated.min()), max(high, dated.max())  # pyright: ignore

    def _see_numbers(self, numbers: pl.Series) -> None:
        if numbers.is_empty():
            return
        count = len(numbers)
        self.numbers[Unit.SECONDS] += count
        self._zeros += int((numbers == 0).sum())
        if len(others := numbers.filter(numbers != 0)):
            self.shown.setdefault("number", _number_text(others[0]))
        low, high = float(numbers.min()), float(numbers.max())  # pyright: ignore[reportArgumentType]
        below = 0
        for unit, limit in SIZES.items():
            is_all = -limit < low and high < limit
            up_to = count if is_all else int((numbers.abs() < limit).sum())
            self._sizes[unit] += up_to - below
            below = up_to
        for unit, (length, _) in COMPACT.items():
            tens = 10.0 ** (length - 8)
            if high >= FIRST_COMPACT * tens and low < LAST_COMPACT * tens:
                self.numbers[unit] += compact_days(numbers, length)
        today = latest() / SECOND / DAY
        if low <= today and high >= _FIRST_DAY:
            days = numbers.is_between(_FIRST_DAY, today) & (numbers == numbers.floor())
            self.numbers[Unit.DAYS] += int(days.sum())
        if low <= today + EXCEL_1970 and high >= _FIRST_DAY + EXCEL_1970:
            days = numbers.is_between(_FIRST_DAY + EXCEL_1970, today + EXCEL_1970)
            self.numbers[Unit.EXCEL_DAYS] += int(days.sum())
        for unit, (per_microsecond, before) in SINCE.items():
            first, last = (
                (moment + before) * SECOND * per_microsecond
                for moment in (DATED / SECOND, today * DAY)
            )
            if low <= last and high >= first:
                self.numbers[unit] += int(numbers.is_between(first, last).sum())
        if low < _YEAR_1970:
            in_1970 = numbers.filter(numbers.abs() < _YEAR_1970).abs()
            self._in_1970 += len(in_1970)
            if len(in_1970 := in_1970.filter(in_1970 > 0)):
                first, last = self._span_1970
                self._span_1970 = min(first, in_1970.min()), max(last, in_1970.max())  # pyright: ignore

    def _see_texts(self, texts: pl.Series) -> None:
        if texts.is_empty():
            return
        forms = forms_of(texts)
        is_other = (forms != TextForm.OTHER.value) & ~texts.str.contains(_USUAL_TEXT)
        self._has_other_texts |= bool(is_other.any())
        for form, count in forms.value_counts().iter_rows():
            self.texts[TextForm(form)] += count
            self.shown.setdefault(form, texts.filter(forms == form)[0][:_LONGEST_SHOWN])
        if (forms == TextForm.SLASHES.value).any():
            self._see_slashes(texts.filter(forms == TextForm.SLASHES.value))

    def _see_slashes(self, texts: pl.Series) -> None:
        named = days_named(texts)
        day, month = named["first"] > 12, named["other"] > 12
        self.day_first += int((day & ~month).sum())
        self.month_first += int((month & ~day).sum())
        for name, rows in (("day", day), ("month", month), ("either", ~(day | month))):
            if rows.any():
                self.shown.setdefault(name, texts.filter(rows)[0])

    def _unit(self) -> Unit:
        count = self.numbers[Unit.SECONDS] - self._zeros  # Zeros are missing in any unit.
        for unit in COMPACT:  # Chance makes no valid dates of numbers, whatever the others are.
            if 2 * self.numbers[unit] > count:
                return unit
        for unit in (Unit.DAYS, Unit.EXCEL_DAYS, *SINCE):
            if count and self.numbers[unit] >= SURE_SHARE * count:
                return unit
        half = -self._zeros
        for unit in SIZES:
            half += self._sizes[unit]
            if 2 * half > count:
                return unit
        return Unit.SECONDS

    def _is_in_1970(self) -> bool:
        count = self.numbers[Unit.SECONDS]
        has_dates = any(self.texts[form] for form in TextForm if form is not TextForm.OTHER)
        are_seconds = bool(count) and self._unit() is Unit.SECONDS and not has_dates
        return are_seconds and self._in_1970 >= SURE_SHARE * count

    def _begins_near_zero(self) -> bool:
        low, high = self._span_1970
        return high < _SMALL or 2 * low <= high

    def _fault_of_span(self) -> str | None:
        """Returns a fault for implausibly dense times: those of an export, or a wrong unit."""
        if self._span is None or self.dated < max(_MANY, SURE_SHARE * self.moments):
            return None
        low, high = self._span
        seconds = (high - low) / SECOND
        if not 0 < seconds < _FEW_SECONDS or self.dated < _DENSE * seconds:
            return None
        return (
            f"holds {self.dated:,} times that all lie within {seconds:.3g} seconds of "
            f"{utc_text(low)}: is it the time of an export? {_WAY}"
        )


_WAY = "write dates as 2020-09-14 12:26:40, or as seconds since 1970"


def moments_in(values: pl.Series, form: TimeForm) -> pl.Series:
    """Returns times as microseconds since 1970 UTC, from dates, texts, or numbers of a unit."""
    name = values.name
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("us").alias(name)
    found = values.to_frame().select(number_of(pl.col(name), form.unit)).to_series().alias(name)
    if values.dtype != pl.String:
        return found
    texts = values.filter(found.is_null())
    if texts.null_count() == len(texts):
        return found
    places = found.is_null().arg_true()
    forms = forms_of(texts)
    for kind in forms.drop_nulls().unique():
        if kind != TextForm.OTHER.value:
            which = (forms == kind).fill_null(value=False)
            read = moments_of(texts.filter(which), TextForm(kind), day_first=form.day_first)
            found = found.clone().scatter(places.filter(which), read)
    return found.alias(name)


def _number_text(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
