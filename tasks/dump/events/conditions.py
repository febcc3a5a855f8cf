"""Conditions on columns of interactions (``rating>=4``): which rows are events."""

import re
from dataclasses import dataclass

import polars as pl

from artifacts import columns as col
from tasks.dump.fields.field import FieldReader

_FORM = re.compile(r"\s*(?P<column>[^<>=!]+?)\s*(?P<sign>>=|<=|!=|=|>|<)\s*(?P<value>.*\S)\s*")
_TELLING = {
    "rating": ">=4",
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
        return f"not {self.column}{self.sign}{self.value}"

    def holds(self) -> pl.Expr:
        """Returns the condition of a column of texts; a missing value fulfils ``!=`` alone."""
        text = pl.col(self.column).cast(pl.String).str.strip_chars()
        number = text.cast(pl.Float64, strict=False).fill_nan(None)
        if self.sign in ("=", "!="):
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
    if made.sign not in ("=", "!=") and _number(made.value) is None:
        raise ValueError(f"--where {text}: {made.value!r} is not a number; use = or !=")
    return made


def telling_columns(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns columns of a file that may distinguish events from other rows, each with an
    example."""
    plain = ((name, re.sub(r"[\W_]", "", name).casefold()) for name in names)
    return [(name, f"{name}{_TELLING[word]}") for name, word in plain if word in _TELLING]


class PlainField(FieldReader):
    """Reads a column of a condition as text."""

    def read(self, values: pl.Series) -> pl.Series:
        return values.cast(pl.String)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None
