"""What every field of a dump has: values of a column in, one form out, decided by all of them.

A reader decides after the first values that it sees and goes on looking. Where the whole column
then turns out to have another form, the source is read once more, by fresh readers of that form.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeVar

import polars as pl

MOST_PASSES = 3
"""A unit of times, and then whether they are dates, may each take one more."""


class FieldReader(Protocol):
    """Reads one column of a source, batch after batch."""

    def read(self, values: pl.Series) -> pl.Series:
        """Returns values in our form, null where one cannot be used."""
        ...

    def is_settled(self) -> bool:
        """Whether all values were read in the form that the whole column has."""
        ...

    def fresh(self) -> Self:
        """Returns a reader of that form that has seen nothing."""
        ...

    def notes(self) -> list[str]:
        """Returns what a user should know of how the column was read."""
        ...

    def is_repaired(self) -> bool:
        """Whether values were read otherwise than they are written: data and the name of what is
        made from it then differ from those of versions that took them as they stand."""
        ...

    def fault(self) -> str | None:
        """Returns why the column cannot be used, with a value of it; None where it can."""
        ...


Fields = Mapping[str, FieldReader]
"""Readers by our name of the column."""

Result = TypeVar("Result")


def read_in_one_form(fields: Fields, one_pass: Callable[[Fields], Result]) -> tuple[Result, Fields]:
    """Reads a source until every column was read in the form that all of it has.

    Returns what the last pass gave, and the readers that it used.
    """
    for _ in range(MOST_PASSES):
        result = one_pass(fields)
        if all(field.is_settled() for field in fields.values()):
            return result, fields
        fields = {name: field.fresh() for name, field in fields.items()}
    raise RuntimeError(
        "a column has another form each time it is read; this is a fault of llm4cdsr: please report"
    )
