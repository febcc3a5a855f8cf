"""Whether a dump replaces data or adds to it."""

from enum import StrEnum


class Mode(StrEnum):
    """What becomes of the data of the last refresh."""

    FULL = "full"
    APPEND = "append"
