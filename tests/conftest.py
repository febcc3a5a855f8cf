"""What every test leaves behind as it found it."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def our_logger_stays_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process sends our log lines to its terminal alone."""
    logger = logging.getLogger("llm4cdsr")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate
