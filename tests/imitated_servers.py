"""Servers of language models as they are: each answers and refuses as a known one does.

    with imitated(OPENAI_REASONING) as server:
        ...client of server.base_url...
    assert server.requests == 21

An imitation is a list of rules, asked in their order: the first that returns a reply decides. What
no rule decides is answered well, in the imitation's form. The server keeps books.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from tasks.llm.providers.dummy_endpoint import running_app

CHAT = "/chat/completions"
EMBEDDINGS = "/embeddings"
WORDS = "The person likes oats, pans and bowls."
WIDTH = 32

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request; ``number`` counts those of its route from 0, ``path`` ends in the route."""

    route: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Json
    number: int

    @property
    def texts(self) -> list[str]:
        """The texts to embed, or the last message."""
        if self.route == CHAT:
            return [str(self.body["messages"][-1]["content"])]
        texts = self.body["input"]
        return [texts] if isinstance(texts, str) else list(texts)

    def has(self, name: str) -> bool:
        return self.body.get(name) is not None


class Reply(NamedTuple):
    """A response; bytes are sent as they are, everything else as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"
    cut: bool = False


Rule = Callable[[Call], Reply | None]
Form = Callable[[Call], Json]


@dataclass(frozen=True)
class Imitation:
    """How a server refuses (``rules``) and how its answers look."""

    name: str
    rules: tuple[Rule, ...] = ()
    chat: Form = field(default_factory=lambda: completion())
    embeddings: Form = field(default_factory=lambda: vectors())
    path: str = "/v1"

    def also(self, *rules: Rule) -> "Imitation":
        """The same with further rules before its own."""
        return replace(self, rules=(*rules, *self.rules))


@dataclass
class Books:
    """What a server was asked. ``paid`` counts good answers by prompt."""

    base_url: str = ""
    calls: list[Call] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        """Of prompts; who looks whether the server is there asks nothing."""
        return len(self.calls)

    @property
    def paid_twice(self) -> int:
        return sum(count - 1 for count in self.paid.values())


@contextlib.contextmanager
def imitated(imitation: Imitation, port: int = 0) -> Iterator[Books]:
    """Runs an imitation on a real socket until the block ends."""
    books = Books()
    with running_app(_app(imitation, books), port) as server:  # type: ignore[arg-type]
        books.base_url = f"http://{server.host}:{server.port}{imitation.path}"
        yield books


def _app(imitation: Imitation, books: Books) -> Callable[..., Any]:
    numbers: dict[str, Iterator[int]] = {CHAT: itertools.count(), EMBEDDINGS: itertools.count()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        reply = _reply(imitation, books, numbers, scope, content)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"content-type": reply.content_type, "content-length": str(len(body))}
        headers |= {name.lower(): value for name, value in reply.headers.items()}
        await send(
            {
                "type": "http.response.start",
                "status": reply.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send(
            {"type": "http.response.body", "body": body[: len(body) // (2 if reply.cut else 1)]}
        )

    return app


def _reply(
    imitation: Imitation,
    books: Books,
    numbers: dict[str, Iterator[int]],
    scope: Any,
    content: bytes,
) -> Reply:
    path = scope["path"]
    route = next((known for known in (CHAT, EMBEDDINGS) if path.rstrip("/").endswith(known)), None)
    if scope["method"] != "POST" or route is None:
        if scope["method"] == "GET" and path.endswith("/models"):
            return Reply(200, {"object": "list", "data": []})
        return Reply(404, {"error": {"message": f"no route {path}", "type": "not_found_error"}})
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    with books._lock:
        call = Call(
            route,
            path,
            scope["query_string"].decode(),
            headers,
            json.loads(content or b"{}"),
            next(numbers[route]),
        )
        books.calls.append(call)
        reply = next((found for rule in imitation.rules if (found := rule(call))), None)
        if reply is None:
            form = imitation.chat if route == CHAT else imitation.embeddings
            reply = Reply(200, form(call))
            books.paid.update(call.texts)
        books.statuses.append(reply.status)
    return reply


# Forms of good answers.


def completion(
    content: Any = WORDS, usage: Any = None, finish: str = "stop", **message: Any
) -> Form:
    """An answer to a question."""
    counted = {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19}

    def form(call: Call) -> Json:
        said = {"role": "assistant", "content": content, **message}
        return {
            "id": "1",
            "object": "chat.completion",
            "model": call.body.get("model"),
            "choices": [{"index": 0, "message": said, "finish_reason": finish}],
            "usage": counted if usage is None else usage,
        }

    return form


def vectors(
    index: Callable[[int], Any] | None = lambda number: number,
    *,
    is_list: bool = False,
    usage: Any = None,
) -> Form:
    """Vectors; ``index`` None leaves it out."""

    def form(call: Call) -> Json:
        packed = call.body.get("encoding_format") == "base64" and not is_list
        data = []
        for number, text in enumerate(call.texts):
            values = vector_of(text, call.body.get("dimensions") or WIDTH)
            raw = struct.pack(f"<{len(values)}f", *values)
            entry = {"embedding": base64.b64encode(raw).decode() if packed else values}
            if index is not None:
                entry["index"] = index(number)
            data.append({"object": "embedding", **entry})
        tokens = 5 * len(data)
        counted = {"prompt_tokens": tokens, "total_tokens": tokens} if usage is None else usage
        return {"object": "list", "data": data, "model": call.body.get("model"), "usage": counted}

    return form


def vector_of(text: str, width: int = WIDTH) -> list[float]:
    """The vector of a text: numbers that float32 holds exactly."""
    digest = hashlib.sha256(text.encode()).digest()
    return [(digest[number % 32] - 127.5) / 128 for number in range(width)]


# Rules.


def error(status: int, message: str, **fields: Any) -> Reply:
    """OpenAI's form of an error."""
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Reply(status, {"error": body | fields})


def always(reply: Reply, route: str | None = None) -> Rule:
    return lambda call: reply if route in (None, call.route) else None


def after(number: int, reply: Reply) -> Rule:
    """Decides from the request of this number on."""
    return lambda call: reply if call.number >= number else None


def every(number: int, reply: Reply) -> Rule:
    """Decides one request in so many, not the first."""
    return lambda call: reply if call.number % number == number - 1 else None


def refuses(name: str, reply: Reply, route: str = CHAT) -> Rule:
    """Refuses a field of a request."""
    return lambda call: reply if call.route == route and call.has(name) else None


def no_system(reply: Reply) -> Rule:
    def rule(call: Call) -> Reply | None:
        if call.route == CHAT and any(said["role"] == "system" for said in call.body["messages"]):
            return reply
        return None

    return rule


def at_most(texts: int, reply: Reply) -> Rule:
    """Refuses a request of more texts."""
    return lambda call: reply if call.route == EMBEDDINGS and len(call.texts) > texts else None


def poison(word: str, reply: Reply) -> Rule:
    """Refuses, for good, every request that holds a word."""
    return lambda call: reply if any(word in text for text in call.texts) else None


def wants_header(name: str, value: str, reply: Reply) -> Rule:
    return lambda call: None if call.headers.get(name) == value else reply


def wants_query(name: str, reply: Reply) -> Rule:
    return lambda call: None if name in parse_qs(call.query) else reply


def moved(status: int, source: str, target: str) -> Rule:
    """Redirects what is asked at a path."""

    def rule(call: Call) -> Reply | None:
        if not call.path.startswith(source):
            return None
        where = target + call.path.removeprefix(source)
        return Reply(status, b"moved", {"location": where}, "text/plain")

    return rule


PAGE = b"<!doctype html><html><head><title>Open WebUI</title></head><body></body></html>"


def page(status: int = 200) -> Reply:
    return Reply(status, PAGE, content_type="text/html; charset=utf-8")
