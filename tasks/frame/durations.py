"""Durations as people write them: 90s, 10m, 2h."""

import re

TIME_BUDGET = "time budget"
"""Words by which a note of a training says that it was cut."""

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])")


def seconds_of(text: str) -> float:
    """Returns the seconds of 90s, 10m or 1.5h; raises ValueError for anything else, and for 0."""
    found = _FORM.fullmatch(text.strip().lower())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds:
        raise ValueError(f"'{text}' is no duration; write 90s, 10m or 2h")
    return seconds


def duration_text(seconds: float) -> str:
    """Returns seconds in the largest unit that they fill, as `seconds_of` reads them."""
    unit = "h" if seconds >= UNITS["h"] else "m" if seconds >= UNITS["m"] else "s"
    count = seconds / UNITS[unit]
    return f"{count:.0f}{unit}" if count >= 10 or count == int(count) else f"{count:.1f}{unit}"
