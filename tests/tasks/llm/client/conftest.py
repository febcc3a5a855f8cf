"""What tests of the client share."""

from collections.abc import Iterator

import pytest

from tasks.llm.client.servers import open_servers


@pytest.fixture(autouse=True)
def nothing_is_known() -> Iterator[None]:
    """What a run learnt of its servers is the run's: another test's may have the same port."""
    open_servers.forget()
    yield
    open_servers.forget()
