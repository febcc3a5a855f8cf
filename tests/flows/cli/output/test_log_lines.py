"""A log line of an error that ends the command with a message has no traceback."""

import errno
import logging
from io import StringIO

import pytest
from rich.console import Console

from flows.cli.output.terminal import LogLines

FULL = OSError(errno.ENOSPC, "No space left on device")


def logged(error: Exception, level: int) -> str:
    text = StringIO()
    logger = logging.Logger("of a library", level)
    logging.Logger.manager.loggerDict[logger.name] = logger
    logger.addHandler(LogLines(console=Console(file=text, width=200)))
    try:
        raise error
    except type(error):
        logger.exception("Encountered exception during execution")
    finally:
        del logging.Logger.manager.loggerDict[logger.name]
    return text.getvalue()


@pytest.mark.parametrize(
    ("error", "level", "is_traced"),
    [
        (FULL, logging.INFO, False),
        (FULL, logging.DEBUG, True),
        (AssertionError("a fault of the program"), logging.INFO, True),
    ],
)
def test_only_what_nobody_expects_has_a_traceback(
    error: Exception, level: int, is_traced: bool
) -> None:
    said = logged(error, level)
    assert "Encountered exception" in said
    assert ("Traceback" in said) is is_traced
