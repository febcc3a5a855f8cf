"""Differences in text form, with their sign."""


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
