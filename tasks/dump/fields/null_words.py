"""Words for missing values in exports.

Case-sensitive: ``Nan`` is a name and ``NAN`` a brand of milk.
"""

import re

from artifacts import columns as col

NULL_WORDS = (
    "nan",
    "NaN",
    "-nan",
    "NaT",
    "null",
    "NULL",
    "(null)",
    "(NULL)",
    "<null>",
    "<NULL>",
    "[NULL]",
    "(none)",
    "<none>",
    "None",
    "N/A",
    "n/a",
    "#N/A",
    "#NULL!",
    "#VALUE!",
    "#REF!",
    "#DIV/0!",
    "#NAME?",
    "NA",
    "<NA>",
    "\\N",
    "nil",
    "undefined",
)
"""Of pandas, R, Postgres, MySQL, Hive, Excel, Python, Ruby and JavaScript."""

_ALSO_NAMES = {col.DOMAIN: ("NA",)}
"""May mean North America."""


def words_of(field: str) -> tuple[str, ...]:
    """Returns the null words of a field."""
    return tuple(word for word in NULL_WORDS if word not in _ALSO_NAMES.get(field, ()))


def null_pattern(field: str) -> str:
    """Returns a Polars pattern that matches these words."""
    return rf"^(?:{'|'.join(re.escape(word) for word in words_of(field))})$"
