"""Base of field readers: the format of a column is detected over all its values.

A reader decides on the first values and keeps counting. If the whole column has another format, the
source is read again by new readers of that format.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import polars as pl

MOST_PASSES = 3
"""Maximum passes: the unit of times and their being dates may each need another."""


class FieldReader(ABC):
    """Reads one column of a source in batches."""

    @abstractmethod
    def read(self, values: pl.Series) -> pl.Series:
        """Returns normalised values, null for unusable ones."""

    def is_settled(self) -> bool:
        """Returns whether all values were read in the format of the whole column."""
        return True

    def fresh(self) -> Self:
        """Returns a new reader for the detected format."""
        return type(self)()

    def notes(self) -> list[str]:
        """Returns notes about the interpretation of the column."""
        return []

    def is_repaired(self) -> bool:
        """Returns whether values were reinterpreted, which changes the data and identity in
        comparison with older versions."""
        return False

    def fault(self) -> str | None:
        """Returns the reason of an unusable column with an example, None if it is usable."""
        return None


Fields = Mapping[str, FieldReader]
"""Readers by standard column name."""

Result = TypeVar("Result")


def read_in_one_form(fields: Fields, one_pass: Callable[[Fields], Result]) -> tuple[Result, Fields]:
    """Reads a source until every column was read in its format.

    Returns the result of the last pass and its readers.
    """
    for _ in range(MOST_PASSES):
        result = one_pass(fields)
        if all(field.is_settled() for field in fields.values()):
            return result, fields
        fields = {name: field.fresh() for name, field in fields.items()}
    raise RuntimeError(
        "a column has another format at each reading; a defect of llm4cdsr: please report it"
    )
