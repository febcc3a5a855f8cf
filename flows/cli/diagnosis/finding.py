"""One result of a check: what was found, and what to do about it."""

from enum import StrEnum

from artifacts.strict import Strict


class Severity(StrEnum):
    """`ERROR` keeps a run from its end, `WARNING` may later."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(Strict):
    """``remedy`` is a sentence that says what to do, None where there is nothing to be done."""

    check: str
    severity: Severity
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    """Returns a finding that nothing is wrong."""
    return Finding(check=check, severity=Severity.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Returns a finding that may later keep a run from its end."""
    return Finding(check=check, severity=Severity.WARNING, found=found, remedy=remedy)


def error(check: str, found: str, remedy: str) -> Finding:
    """Returns a finding that keeps a run from its end."""
    return Finding(check=check, severity=Severity.ERROR, found=found, remedy=remedy)
