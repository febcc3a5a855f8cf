"""A webhook that the process under test is set to."""

import threading
from collections.abc import Iterator

import pytest

from tasks.alerts.webhook import WEBHOOK_VARIABLE
from tests.tasks.alerts.inbox import Inbox


@pytest.fixture
def inbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    server = Inbox(getattr(request, "param", []))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv(WEBHOOK_VARIABLE, server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)
