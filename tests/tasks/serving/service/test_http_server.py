"""What a client may hold up: connections that say nothing, say it slowly or do not listen."""

import socket
import time

import httpx
import pytest

from artifacts.store import Store
from tasks.serving.app import create_app
from tasks.serving.limits import Limits
from tasks.serving.recommender import Recommender
from tasks.serving.service.http_server import ConnectionLimits
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release

PATIENCE = 30
HEAD = b"POST /recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


def connection(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), PATIENCE)


def rest(client: socket.socket) -> bytes:
    """What comes until the server closes; a timeout is a failure."""
    told = b""
    try:
        while part := client.recv(65_536):
            told += part
    except ConnectionError:
        """Closed with a reset."""
    return told


@pytest.mark.parametrize("said", [b"", b"GET /health HT", HEAD, b"GET / HTTP/1.1\r\nHost: lo"])
def test_a_connection_whose_headers_do_not_come_is_closed(
    recommender: Recommender, said: bytes
) -> None:
    with running_server(create_app(recommender), ConnectionLimits(head_seconds=0.2)) as url:
        with connection(url) as client:
            client.sendall(said)
            assert rest(client) == b""
        assert httpx.get(f"{url}/health").status_code == 200


def test_headers_that_come_byte_by_byte_have_one_deadline(recommender: Recommender) -> None:
    with (
        running_server(create_app(recommender), ConnectionLimits(head_seconds=0.3)) as url,
        connection(url) as client,
    ):
        client.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        with pytest.raises(ConnectionError):
            trickle(client)


def trickle(client: socket.socket) -> None:
    """Sends a byte now and then until nobody takes them."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        client.sendall(b"x")
        time.sleep(0.05)


def test_the_next_request_of_a_connection_has_the_same_deadline(recommender: Recommender) -> None:
    with (
        running_server(create_app(recommender), ConnectionLimits(head_seconds=0.3)) as url,
        connection(url) as client,
    ):
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
        told = rest(client)
    assert told.startswith(b"HTTP/1.1 200")
    assert told.count(b"HTTP/1.1") == 1


def test_a_body_that_does_not_come_is_answered_408(recommender: Recommender) -> None:
    limits = Limits(body_seconds=0.2)
    with (
        running_server(create_app(recommender, limits), ConnectionLimits(head_seconds=0.3)) as url,
        connection(url) as client,
    ):
        client.sendall(HEAD + b'Content-Length: 40\r\n\r\n{"history"')
        told = rest(client)
    assert told.startswith(b"HTTP/1.1 408")


def test_an_answer_that_takes_too_long_is_503(recommender: Recommender) -> None:
    app = create_app(recommender, Limits(answer_seconds=0.2))

    @app.get("/slow")
    async def slow() -> None:
        import asyncio

        await asyncio.sleep(PATIENCE)

    with running_server(app) as url:
        answer = httpx.get(f"{url}/slow", timeout=PATIENCE)
    assert (answer.status_code, "too long" in answer.text) == (503, True)


def test_connections_beyond_the_limit_are_closed_and_the_others_served(
    recommender: Recommender,
) -> None:
    limits = ConnectionLimits(head_seconds=PATIENCE, connections=3)
    with running_server(create_app(recommender), limits) as url:
        held = [connection(url) for _ in range(3)]
        for client in held:  # One answer each: the server has counted them.
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        with connection(url) as further:
            assert rest(further) == b""
        held[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        told = b""
        while b"HTTP/1.1 200" not in told:
            told += held[0].recv(65_536)
        for client in held:
            client.close()
