"""Result of a check, with a remedy."""

from enum import StrEnum

from artifacts.strict import Strict


class Severity(StrEnum):
    """`ERROR` makes a run fail, `WARNING` may do so later."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(Strict):
    """``remedy`` is a sentence with the required action, None if none is needed."""

    check: str
    severity: Severity
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    """Returns a finding without a fault."""
    return Finding(check=check, severity=Severity.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Returns a finding that may make a later run fail."""
    return Finding(check=check, severity=Severity.WARNING, found=found, remedy=remedy)


def error(check: str, found: str, remedy: str) -> Finding:
    """Returns a finding that makes a run fail."""
    return Finding(check=check, severity=Severity.ERROR, found=found, remedy=remedy)
