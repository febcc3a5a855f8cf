"""Prices as numbers, with the decimal separator detected over the whole column.

In ``12,99 €`` and ``1.234,56`` the comma is decimal. ``1.234`` is ambiguous: it is read with the
decimal separator of at least 99 % of the column's unambiguous prices, else null. Currencies are
ignored.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import polars as pl

from tasks.dump.fields.field import FieldReader
from tasks.dump.fields.null_words import words_of

_CODES = (
    "USD|EUR|GBP|JPY|CNY|RMB|INR|CAD|AUD|NZD|CHF|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|TRY|RUB|UAH|BRL|"
    "MXN|ARS|CLP|COP|PEN|ZAR|NGN|KES|EGP|AED|SAR|ILS|KRW|TWD|HKD|SGD|MYR|THB|IDR|PHP|VND|PKR|BDT"
)
_WORDS = r"Rs\.?|kr\.?|zł|Kč|Ft|lei|руб\.?|грн|元|円|원|đ|TL|SFr\.?|Fr\.?|RM|Rp\.?|Euro|euro|EURO"
_MONEY = rf"(?:[A-Za-z]{{0,3}}[\p{{Sc}}--[¢]]|{_CODES}|{_WORDS})"
_SPACE = r"[\s\x{A0}\x{202F}]"
_AMOUNT = r"[+-]?(?:\d(?:[\d.,'’\x{A0}\x{202F} ]*\d)?|[.,]\d+)"
_PRICE = (
    rf"^{_SPACE}*(?:{_MONEY}{_SPACE}*)?(?P<amount>{_AMOUNT})(?:[.,:/]-{{1,2}}|,—)?"
    rf"(?:{_SPACE}*(?:-|–|to|bis|~){_SPACE}*(?:{_MONEY}{_SPACE}*)?{_AMOUNT})?"
    rf"(?:{_SPACE}*{_MONEY})?{_SPACE}*$"
)
"""A price, or a range of prices, of which the lower end is used."""

_SPACED = r"^[+-]?\d{1,3}(?:['’\x{A0}\x{202F} ]\d{3})+(?:[.,]\d+)?$"
_EXPONENT = r"^\d+(?:\.\d+)?[eE][+-]?\d+$"
_USUAL_TEXT = (
    r"^(?:US\$|[$€£¥])?\s*\d[\d,]*(?:\.\d+)?(?:\s*(?:-|–|to)\s*(?:US\$|[$€£¥])?\s*[\d.,]+)?"
    r"\s*(?:元|USD|EUR|€)?$"
)
_SHORT_COMMA = r",\d{1,2}(?:\D|$)|^\D*\d{1,3},\d{3}(?:\D|$)"
SURE_SHARE = 0.99
_SHOWN = 40


class _Mark(StrEnum):
    """What the separators of an amount say about the decimal separator."""

    NONE = "whole number"
    POINT = "decimal point"
    COMMA = "decimal comma"
    EITHER_POINT = "a point before three digits"
    EITHER_COMMA = "a comma before three digits"
    WRONG = "no amount"


_FORMS = {
    _Mark.NONE: r"^[+-]?\d+$",
    _Mark.EITHER_POINT: r"^[+-]?[1-9]\d{0,2}\.\d{3}$",
    _Mark.EITHER_COMMA: r"^[+-]?[1-9]\d{0,2},\d{3}$",
    _Mark.POINT: (
        r"^[+-]?(?:\d*\.\d+|\d{1,3}(?:,\d{2,3})*,\d{3}\.\d+|\d{1,3}(?:,\d{2,3})+,\d{3})$"
    ),
    _Mark.COMMA: r"^[+-]?(?:\d*,\d+|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})$",
}
"""The first match applies."""


@dataclass
class PriceField(FieldReader):
    """Reads a column of prices; ``is_comma``: whether the comma is the decimal separator of
    ambiguous prices, None if undecided."""

    is_comma: bool | None = None
    is_fixed: bool = False

    _marks: Counter[_Mark] = field(default_factory=Counter)
    _shown: dict[str, str] = field(default_factory=dict)
    _unread: int = 0
    _negative: int = 0
    _has_other_forms: bool = False
    _used: set[bool | None] = field(default_factory=set)
    """Values of ``is_comma`` with which ambiguous prices were read so far."""

    def read(self, values: pl.Series) -> pl.Series:
        """Returns prices (Float64), null for other values."""
        if values.dtype.is_nested():
            self._leave_out(
                values.filter(values.is_not_null()).cast(pl.List(pl.String), strict=False)
            )
            return pl.Series(values.name, [None] * len(values), pl.Float64)
        found = self._of_texts(values) if values.dtype == pl.String else values.cast(pl.Float64)
        found = found.set(~found.is_finite(), None)
        below = found < 0
        self._negative += int(below.sum())
        return found.set(below, None).alias(values.name)

    def is_settled(self) -> bool:
        return self._used <= {self._decimal_comma()}

    def fresh(self) -> Self:
        return type(self)(self._decimal_comma(), is_fixed=True)

    def notes(self) -> list[str]:
        said = []
        if self._marks[_Mark.COMMA]:
            said.append(f"a comma is decimal in prices such as {self._shown[_Mark.COMMA]!r}")
        either = [mark for mark in (_Mark.EITHER_POINT, _Mark.EITHER_COMMA) if self._marks[mark]]
        if either and self.is_comma is None:
            count = sum(self._marks[mark] for mark in either)
            said.append(
                f"prices that can be read in two ways, {count:,} of them, such as "
                f"{self._shown[either[0]]!r}, are left out: no other price decides the reading"
            )
        if self._unread:
            said.append(
                f"values that are no prices, {self._unread:,} of them, such as "
                f"{self._shown['unread']!r}, are left out"
            )
        if self._negative:
            said.append(f"prices below zero, {self._negative:,} of them, are left out")
        return said

    def is_repaired(self) -> bool:
        return self._has_other_forms or bool(self._negative)

    def _of_texts(self, values: pl.Series) -> pl.Series:
        texts = values.str.strip_chars()
        texts = texts.set(texts.is_in(["", *words_of("price")]), None)
        amounts = texts.str.extract_groups(_PRICE).struct.field("amount").alias("amount")
        amounts = amounts.zip_with(~texts.str.contains(_EXPONENT).fill_null(value=False), texts)
        spaced = amounts.str.contains(_SPACED).fill_null(value=False)
        amounts = amounts.str.replace_all(r"['’\x{A0}\x{202F} ]", "").zip_with(spaced, amounts)
        marks = self._marks_of(amounts)
        exponents = texts.str.contains(_EXPONENT).fill_null(value=False)
        for mark, count in marks.value_counts().iter_rows():
            if mark is not None:
                self._marks[_Mark(mark)] += count
                self._shown.setdefault(mark, texts.filter(marks == mark)[0][:_SHOWN])
        wrong = (
            texts.is_not_null() & (amounts.is_null() | (marks == _Mark.WRONG.value)) & ~exponents
        )
        self._leave_out(texts.filter(wrong.fill_null(value=False)))
        is_usual = texts.str.contains(_USUAL_TEXT) & ~texts.str.contains(_SHORT_COMMA)
        is_other = ~is_usual & ~wrong
        self._has_other_forms |= bool(is_other.any())
        if not self.is_fixed:
            self.is_comma = self._decimal_comma()
        if marks.is_in([_Mark.EITHER_POINT.value, _Mark.EITHER_COMMA.value]).any():
            self._used.add(self.is_comma)
        written = pl.DataFrame({"amount": amounts, "mark": marks}).select(self._written())
        return written.to_series().zip_with(~exponents, texts).cast(pl.Float64, strict=False)

    def _marks_of(self, amounts: pl.Series) -> pl.Series:
        column = pl.col("amount")
        kinds = (
            pl.when(column.str.contains(form)).then(pl.lit(mark.value))
            for mark, form in _FORMS.items()
        )
        found = pl.when(column.is_not_null()).then(pl.coalesce(*kinds, pl.lit(_Mark.WRONG.value)))
        return pl.DataFrame({"amount": amounts}).select(found.alias("mark")).to_series()

    def _written(self) -> pl.Expr:
        """Returns amounts with a decimal point and without thousands separators."""
        amount, mark = pl.col("amount"), pl.col("mark")
        by_point = amount.str.replace_all(",", "", literal=True)
        by_comma = amount.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        either = mark.is_in([_Mark.EITHER_POINT.value, _Mark.EITHER_COMMA.value])
        told = None if self.is_comma is None else (by_comma if self.is_comma else by_point)
        return (
            pl.when(mark == _Mark.COMMA.value)
            .then(by_comma)
            .when(either)
            .then(pl.lit(None, pl.String) if told is None else told)
            .when(mark != _Mark.WRONG.value)
            .then(by_point)
        )

    def _decimal_comma(self) -> bool | None:
        comma, point = self._marks[_Mark.COMMA], self._marks[_Mark.POINT]
        if comma and comma >= SURE_SHARE * (comma + point):
            return True
        if point and point >= SURE_SHARE * (comma + point):
            return False
        return None

    def _leave_out(self, values: pl.Series) -> None:
        self._unread += len(values)
        if len(values):
            self._shown.setdefault("unread", str(values.to_list()[0])[:_SHOWN])
