"""Conditions on columns of interactions (``rating>=4``): which rows are events."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import polars as pl

from artifacts import columns as col
from tasks.dump.fields.field import FieldReader

_FORM = re.compile(r"\s*(?P<column>[^<>=!]+?)\s*(?P<sign>>=|<=|!=|=|>|<)\s*(?P<value>.*\S)\s*")
_TELLING = {
    "rating": ">=4",
    "bookrating": ">=4",
    "score": ">=4",
    "stars": ">=4",
    "overall": ">=4",
    "quantity": ">0",
    "qty": ">0",
    "event": "=purchase",
    "eventtype": "=purchase",
    "eventname": "=purchase",
    "action": "=purchase",
    "actiontype": "=purchase",
    "behaviortype": "=buy",
    "status": "=paid",
    "orderstatus": "=paid",
    "click": "=1",
    "clicked": "=1",
    "isclick": "=1",
    "clk": "=1",
    "isread": "=true",
    "like": "=1",
    "liked": "=1",
    "islike": "=1",
    "label": "=1",
    "purchased": "=1",
    "watchratio": ">=0.5",
}
"""Columns that may distinguish events from other rows, with a condition as an example."""


@dataclass(frozen=True)
class Condition:
    """``column``, a comparison sign, and the value; of ``=`` and ``!=`` also several, by comma."""

    column: str
    sign: str
    value: str

    @property
    def rule(self) -> str:
        """Returns the name of the rule that drops rows."""
        return f"not {self.text}"

    @property
    def text(self) -> str:
        """Returns the condition as it was given."""
        return f"{self.column}{self.sign}{self.value}"

    @property
    def compares_numbers(self) -> bool:
        """Returns whether only numbers can fulfil the condition."""
        return self.sign not in ("=", "!=")

    def holds(self) -> pl.Expr:
        """Returns the condition of a column of texts; a missing value fulfils ``!=`` alone."""
        text, number = _text_of(self.column), _number_of(self.column)
        if not self.compares_numbers:
            texts = [part.strip() for part in self.value.split(",")]
            numbers = [found for part in texts if (found := _number(part)) is not None]
            is_one = (text.is_in(texts) | number.is_in(numbers)).fill_null(value=False)
            return is_one if self.sign == "=" else ~is_one
        limit = float(self.value)
        compared = {
            ">=": number >= limit,
            "<=": number <= limit,
            ">": number > limit,
            "<": number < limit,
        }[self.sign]
        return compared.fill_null(value=False)


def condition(text: str) -> Condition:
    """Returns the condition of a text; raises `ValueError` with the way out."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"--where {text}: write COLUMN>=NUMBER or COLUMN=VALUE, as 'rating>=4'")
    made = Condition(**found.groupdict())
    if made.column == col.TIMESTAMP:
        raise ValueError(f"--where {text}: use --since and --until for times")
    if made.column == col.USER_ID:
        raise ValueError(
            f"--where {text}: settings must not contain user ids; remove the rows from the file"
        )
    if made.compares_numbers and _number(made.value) is None:
        raise ValueError(f"--where {text}: {made.value!r} is not a number; use = or !=")
    return made


def telling_columns(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns columns of a file that may distinguish events from other rows, each with an
    example."""
    leaves = ((name, re.split(r"[./]", name)[-1]) for name in names)
    plain = ((name, re.sub(r"[\W_]", "", leaf).casefold()) for name, leaf in leaves)
    return [(name, f"{name}{_TELLING[word]}") for name, word in plain if word in _TELLING]


@dataclass
class PlainField(FieldReader):
    """Reads a column of conditions as text.

    ``must_hold``: whether a condition that no value fulfils is a fault.
    """

    conditions: tuple[Condition, ...] = ()
    must_hold: bool = True

    _held: Counter[str] = field(default_factory=Counter)
    _strange: Counter[str] = field(default_factory=Counter)
    _example: str = ""
    _seen: dict[str, None] = field(default_factory=dict)

    def read(self, values: pl.Series) -> pl.Series:
        texts = values.cast(pl.String)
        if len(self._seen) < _SHOWN_VALUES:
            self._seen |= dict.fromkeys(
                texts.drop_nulls().unique(maintain_order=True).head(_SHOWN_VALUES)
            )
        for each in self.conditions:
            frame = texts.alias(each.column).to_frame()
            self._held[each.text] += int(frame.select(each.holds().sum()).item())
            if each.compares_numbers:
                is_strange = _text_of(each.column).ne("") & _number_of(each.column).is_null()
                strange = frame.filter(is_strange).to_series()
                self._strange[each.text] += len(strange)
                self._example = self._example or next(iter(strange), "")
        return texts

    def fresh(self) -> Self:
        return type(self)(self.conditions, self.must_hold)

    def notes(self) -> list[str]:
        return [
            *(
                f"{count:,} values such as {self._example[:_LONGEST]!r} are no numbers and do not "
                f"fulfil --where {text!r}"
                for text, count in self._strange.items()
                if count
            ),
            *self._unfulfilled(),
        ]

    def fault(self) -> str | None:
        return next(self._unfulfilled(), None) if self.must_hold else None

    def _unfulfilled(self) -> Iterator[str]:
        shown = ", ".join(repr(value[:_LONGEST]) for value in list(self._seen)[:_SHOWN_VALUES])
        for each in self.conditions:
            if self._seen and not self._held[each.text]:
                yield f"holds {shown}, of which none fulfils --where {each.text!r}; correct it"


_SHOWN_VALUES, _LONGEST = 5, 30


def _text_of(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_chars()


def _number_of(column: str) -> pl.Expr:
    return _text_of(column).cast(pl.Float64, strict=False).fill_nan(None)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None
