"""What tests of asking share."""

import pytest

from tasks.asking import circuit_breaker, endpoint_tries


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, shortened: their number is what is tested."""
    monkeypatch.setattr(endpoint_tries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(endpoint_tries, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE", 0.01)
