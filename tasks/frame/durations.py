"""Durations in text form: 90s, 10m, 2h."""

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
