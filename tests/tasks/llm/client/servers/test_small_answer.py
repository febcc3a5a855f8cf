"""Small answers: whole, bounded in size and time, and read without following anything."""

import gzip
import json
import time
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from pydantic import JsonValue

from tasks.llm.client.servers.small_answer import MOST_BYTES, small_answer
from tests.tasks.llm.client.servers.wire_server import Wire, speaking

HEADERS = {"Authorization": "Bearer sk-secret"}
LIMIT = timedelta(seconds=2)
BODY: JsonValue = {"input": "a"}


def endless(wire: Wire) -> None:
    wire.head(content_type="application/json")
    while True:
        wire.send(b" " * (1 << 20))


def trickling(wire: Wire) -> None:
    wire.head(content_type="application/json")
    while True:
        wire.send(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("behaviour", "error"), [(endless, httpx.ReadError), (trickling, httpx.ReadTimeout)]
)
def test_an_answer_that_does_not_end_is_given_up(
    behaviour: Callable[[Wire], None], error: type[httpx.HTTPError]
) -> None:
    began = time.monotonic()
    with speaking(behaviour) as server, pytest.raises(error):
        small_answer(f"{server.books.base_url}/models", HEADERS, LIMIT, BODY)
    assert time.monotonic() - began < 10


def test_a_redirect_is_an_answer() -> None:
    def moved(wire: Wire) -> None:
        wire.answer(b"", "307 Moved", location="http://127.0.0.1:1/v1/models")

    with speaking(moved) as server:
        assert small_answer(f"{server.books.base_url}/models", HEADERS, LIMIT, BODY).status == 307


def test_a_body_is_read_as_it_is_and_a_deep_one_is_no_json() -> None:
    packed = gzip.compress(b" " * MOST_BYTES * 4)

    def bomb(wire: Wire) -> None:
        wire.answer(packed, content_encoding="gzip")

    with speaking(bomb) as server:
        answer = small_answer(f"{server.books.base_url}/models", HEADERS, LIMIT, BODY)
    assert answer.content == packed
    with pytest.raises(ValueError, match="recursion"):
        answer._replace(content=b"[" * 100_000).json()
    assert answer._replace(content=json.dumps({"count": 3}).encode()).json() == {"count": 3}
