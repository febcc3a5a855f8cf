"""No log record of the process holds a credential of a URL, whatever library writes it."""

import logging
from collections.abc import Iterator

import httpx
import pytest

from tasks.frame.shown_logs import hide_credentials_in_logs


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    before = logging.getLogRecordFactory()
    hide_credentials_in_logs()
    caplog.set_level(logging.INFO)
    yield caplog
    logging.setLogRecordFactory(before)


def test_message_arguments_and_objects_are_shown_without(log: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("any.library")
    secret = "https://user:word@h/a?key=word"
    logger.info(f"asking {secret}")
    logger.info("asking %s: %d of %.1f", secret, 3, 0.5)
    logger.info("asking %s", httpx.URL(secret))
    logger.info("asking %(url)s", {"url": secret})
    logger.warning("failed: %s", ValueError(secret))
    assert "word" not in log.text
    assert "asking https://h/a?key=…: 3 of 0.5" in log.text
    assert log.text.count("https://h/a?key=…") == 5


def test_other_records_are_as_they_were(log: pytest.LogCaptureFixture) -> None:
    given = ("GET", "/a?key=1", 200)
    logging.getLogger("access").info('"%s %s" %d', *given)
    assert log.records[-1].args == given
    assert log.records[-1].getMessage() == '"GET /a?key=1" 200'
