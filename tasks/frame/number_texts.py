"""Numbers in text form: durations (90s, 10m, 2h), and differences with their sign."""

import re

TIME_BUDGET = "time budget"
"""Phrase in the note of a training that ended by its limit."""

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])")


def seconds_of(text: str) -> float:
    """Returns the seconds of 90s, 10m or 1.5h; raises ValueError for other forms and for 0."""
    found = _FORM.fullmatch(text.strip().lower())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds:
        raise ValueError(f"'{text}' is no duration; write 90s, 10m or 2h")
    return seconds


def duration_text(seconds: float) -> str:
    """Returns seconds in the largest fitting unit, in the form that `seconds_of` reads."""
    unit = "h" if seconds >= UNITS["h"] else "m" if seconds >= UNITS["m"] else "s"
    count = seconds / UNITS[unit]
    return f"{count:.0f}{unit}" if count >= 10 or count == int(count) else f"{count:.1f}{unit}"


def signed(value: float, digits: int = 3) -> str:
    """Returns a difference with a sign and ``digits`` decimals; one that they would show as zero
    has its first significant digit, so that the end of an interval shows its side of zero."""
    text = f"{value:+.{digits}f}"
    if value and not float(text) and abs(value) >= 1e-9:
        return f"{value:+.{_first_digit(value)}f}"
    return f"{value:+z.{digits}f}"


def _first_digit(value: float) -> int:
    """Returns the number of decimals up to the first significant digit."""
    return -int(f"{value:e}".partition("e")[2])
