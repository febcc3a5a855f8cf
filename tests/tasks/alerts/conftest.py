"""A webhook that the process under test is set to."""

from collections.abc import Iterator

import pytest

from tasks.alerts.webhook import WEBHOOK_VARIABLE
from tests.tasks.alerts.inbox import Inbox, receiving


@pytest.fixture
def inbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with receiving(getattr(request, "param", [])) as server:
        monkeypatch.setenv(WEBHOOK_VARIABLE, server.url)
        yield server
