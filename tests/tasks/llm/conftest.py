"""What tests of asking share."""

import pytest

from tasks.llm.client.failures import retries
from tasks.llm.client.servers import circuit_breaker


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, shortened: their number is what is tested."""
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE", 0.01)
