"""Whether a server listens is asked before prompts are sent."""

import socket

import pytest

from tasks.llm.client.ask import require_server
from tasks.llm.client.stop import EndpointDownError
from tests.imitated_servers import Books
from tests.tasks.llm.client.asking_imitations import spec_at


def test_a_server_that_never_lists_its_models_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.llm.client.ask.LISTENING_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        require_server(spec_at(Books(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")))


def test_an_address_without_a_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EndpointDownError, match=f"nothing answers at http://127.0.0.1:{port}"):
        require_server(spec_at(Books(f"http://127.0.0.1:{port}/v1")))
