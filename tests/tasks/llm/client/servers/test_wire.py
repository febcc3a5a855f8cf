"""Servers that speak HTTP in their own way: each prompt is answered, and paid once."""

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate

import pytest

from artifacts.ledger.answers import Role
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError
from tests.tasks.llm.client.asking_imitations import ask, spec_at
from tests.tasks.llm.client.servers.wire_server import Behaviour, Wire, speaking

pytestmark = pytest.mark.usefixtures("quick_retries")

TEXTS = [f"text {number}" for number in range(40)]


def packed(encoding: str, pack: Callable[[bytes], bytes]) -> Behaviour:
    return lambda wire: wire.answer(pack(wire.good), content_encoding=encoding)


def in_chunks(wire: Wire, size: int = 7, seconds: float = 0.0) -> None:
    wire.head(transfer_encoding="chunked", content_type="application/json")
    for place in range(0, len(wire.good), size):
        part = wire.good[place : place + size]
        wire.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        time.sleep(seconds)
    wire.send(b"0\r\n\r\n")


def old(wire: Wire) -> None:
    wire.head(version="1.0", content_type="application/json")
    wire.send(wire.good)
    wire.end()


def leaving(wire: Wire) -> None:
    """Closes every third connection after its answer without having said so."""
    wire.answer()
    if wire.number % 3 == 2:
        wire.end()


def hinting(wire: Wire) -> None:
    wire.head("103 Early Hints", link="</x>; rel=preload")
    wire.answer()


def waiting_with_blanks(wire: Wire) -> None:
    """Sends white space while it works, as OpenRouter and proxies do."""
    body = b"\n  \n\n" + wire.good
    wire.answer(body)


def streaming(wire: Wire) -> None:
    reply = json.loads(wire.good)
    if "choices" not in reply:
        wire.answer()
        return
    said = reply["choices"][0]["message"]["content"]
    parts = [
        {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        for word in (said[:5], said[5:])
    ]
    parts.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    parts.append({"choices": [], "usage": reply["usage"]})
    lines = [": OPENROUTER PROCESSING", *(f"data: {json.dumps(part)}" for part in parts)]
    body = "\r\n\r\n".join([*lines, "data: [DONE]", ""]).encode()
    wire.head(content_type="text/event-stream", content_length=str(len(body)))
    wire.send(body)


def without_a_reason(wire: Wire) -> None:
    wire.answer(status="200")


def of_odd_headers(wire: Wire) -> None:
    wire.answer(X_Name="Käse", server="", set_cookie="a=b", x_long="x" * 4000)


HEALTHY: dict[str, Behaviour] = {
    "gzip": packed("gzip", gzip.compress),
    "deflate": packed("deflate", zlib.compress),
    "gzip, named twice over": packed("identity, gzip", gzip.compress),
    "chunks": in_chunks,
    "slow chunks": lambda wire: in_chunks(wire, 400, 0.01),
    "HTTP/1.0": old,
    "connections closed at random": leaving,
    "interim responses": hinting,
    "blanks before the answer": waiting_with_blanks,
    "a stream": streaming,
    "a status without words": without_a_reason,
    "odd headers": of_odd_headers,
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("role", Role)
def test_an_answer_in_any_wrapping_is_read(name: str, role: Role) -> None:
    assert requests_beyond_need(HEALTHY[name], role) == 0


def requests_beyond_need(behaviour: Behaviour, role: Role) -> int:
    """Asks all texts, which must all be answered."""
    with speaking(behaviour) as server:
        answers, failures = ask(TEXTS, spec_at(server.books, role, batch_size=4))
        assert (len(answers), failures) == (len(TEXTS), [])
        needed = len(TEXTS) if role is Role.CHAT else len(TEXTS) // 4
        return server.requests - needed


def once(status: str, **headers: str) -> Behaviour:
    """Refuses the second request."""

    def behaviour(wire: Wire) -> None:
        if wire.number == 1:
            wire.answer(b'{"error": {"message": "later"}}', status, **headers)
        else:
            wire.answer()

    return behaviour


def cut_once(wire: Wire) -> None:
    if wire.number == 1:
        wire.head(content_length=str(len(wire.good)))
        wire.send(wire.good[:20])
        wire.end()
    else:
        wire.answer()


def nonsense_once(wire: Wire) -> None:
    if wire.number == 1:
        wire.send(b"\x15\x03\x01\x00\x02\x02\x46")
        wire.end()
    else:
        wire.answer()


def wrongly_packed_once(wire: Wire) -> None:
    wire.answer(content_encoding="gzip" if wire.number == 1 else "identity")


PASSING: dict[str, Behaviour] = {
    "429 until a date": once("429 Too Many Requests", retry_after=formatdate(usegmt=True)),
    "429 until a date of the past": once("429 x", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 until no date": once("429 x", retry_after="soon"),
    "529": once("529 Overloaded"),
    "498, Groq": once("498 Flex Tier Capacity Exceeded"),
    "499, nginx": once("499 Client Closed Request"),
    "424, TEI": once("424 Failed Dependency"),
    "420": once("420 Enhance Your Calm"),
    "520, Cloudflare": once("520 Unknown"),
    "a cut answer": cut_once,
    "no HTTP": nonsense_once,
    "a wrong encoding": wrongly_packed_once,
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("role", Role)
def test_what_passes_costs_no_prompt_its_answer(name: str, role: Role) -> None:
    assert requests_beyond_need(PASSING[name], role) <= 3


HOPELESS: dict[str, tuple[Behaviour, str]] = {
    "no HTTP": (lambda wire: (wire.send(b"SSH-2.0-OpenSSH_9.6\r\n"), wire.end())[0], "cut"),
    "nothing": (Wire.end, "cut"),
    "an unknown encoding": (
        lambda wire: wire.answer(b"\xff\xfe\xfd", content_encoding="gzip"),
        "malformed answer",
    ),
    "a compression that was not asked for": (
        lambda wire: wire.answer(b"\x0b\x02\x80{}\x03", content_encoding="br"),
        "compressed by 'br', and the request accepts gzip only",
    ),
    "a compression of a compression": (
        packed("gzip, gzip", lambda content: gzip.compress(gzip.compress(content))),
        "compressed by 'gzip, gzip', and the request accepts gzip only",
    ),
    "204": (lambda wire: wire.head("204 No Content"), "an empty body"),
    "304": (lambda wire: wire.head("304 Not Modified"), "HTTP 304|an empty body"),
    "a redirect in a circle": (
        lambda wire: wire.answer(b"", "307 x", location="/v1/chat/completions"),
        "redirects more than 3 times",
    ),
    "a redirect to nowhere": (
        lambda wire: wire.answer(b"", "302 Found", location="http://[::1"),
        "no API at this URL|redirect",
    ),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_what_is_no_such_server_ends_the_stage_in_words(name: str) -> None:
    behaviour, said = HOPELESS[name]
    with speaking(behaviour) as server:
        with pytest.raises((EndpointDownError, EndpointRefusedError), match=said):
            ask(TEXTS, spec_at(server.books, outage_seconds=0.5))
        assert server.requests <= 20 + 4


def test_an_answer_that_never_ends_is_given_up() -> None:
    """Each silence is short, so that no timeout of a read ends it."""
    ended = threading.Event()

    def trickle(wire: Wire) -> None:
        wire.head(transfer_encoding="chunked", content_type="application/json")
        while not ended.wait(0.02):
            wire.send(b"1\r\n \r\n")

    with speaking(trickle) as server:
        spec = spec_at(server.books, timeout_seconds=0.1, outage_seconds=0.3, max_retries=0)
        _, failures = ask(TEXTS[:1], spec)
        ended.set()
    assert "no complete answer within" in failures[0].reason
