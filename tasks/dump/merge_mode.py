"""Whether a dump replaces data or adds to it."""

from enum import StrEnum


class Mode(StrEnum):
    """Handling of the data of the last refresh."""

    FULL = "full"
    APPEND = "append"
