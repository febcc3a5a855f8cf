"""The API key: shown to its own server, and to no reader of an error."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from artifacts.ledger.answers import Role
from tasks.llm.client.failures.fault_kinds import REASON_CHARACTERS
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.providers.dummy_endpoint import (
    running_app,
)
from tasks.llm.settings.llm_config import masked
from tests.tasks.llm.client.asking_a_server import (
    TEXTS,
    CountedRequests,
    answering,
    asked,
    embedded,
)
from tests.tasks.shops.small_shop import spec_of

pytestmark = pytest.mark.usefixtures("quick_retries")


KEY = "sk-secret-0123456789"


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("role", Role)
def test_a_refusal_of_everything_is_raised_at_once(
    status: int, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", KEY)
    body = {"error": {"message": f"Incorrect key {KEY}"}}
    with running_app(counted := CountedRequests(answering(status, body))) as server:  # type: ignore[arg-type]
        spec = spec_of(server.base_url, role, concurrency=1, key_variable="LLM4CDSR_API_KEY")
        with pytest.raises(EndpointRefusedError, match="check") as raised:
            (embedded if role is Role.EMBEDDING else asked)(TEXTS, spec)
    assert counted.requests == 1
    assert server.base_url in str(raised.value)
    assert _everything_said_by(raised.value).count(KEY) == 0


def test_a_refusal_that_quotes_the_key_does_not_leak_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", KEY)
    body = {"error": {"message": f"bad request by {KEY}: too long"}}
    with caplog.at_level(logging.DEBUG), running_app(answering(400, body)) as server:
        spec = spec_of(server.base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY")
        found = asked(TEXTS[:1], spec)
    assert "too long" in str(found)
    assert KEY not in str(found)


def test_a_key_that_is_a_short_word_is_masked_alone() -> None:
    assert masked("the key x of maximum 8", "x") == "the key [key] of maximum 8"
    assert masked(f"Bearer {KEY}s", KEY) == "Bearer [key]s"


@pytest.mark.parametrize("shown", range(4, len(KEY)))
def test_a_key_that_the_end_of_the_words_cuts_is_masked(shown: int) -> None:
    assert masked(f"Bearer {KEY[:shown]}…", KEY) == "Bearer [key]…"
    assert masked(f"Bearer {KEY[:shown]}", KEY) == "Bearer [key]…"


def test_a_server_that_pads_the_key_to_the_end_of_a_message_does_not_leak_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", KEY)
    for padding in range(REASON_CHARACTERS - len(KEY) - 8, REASON_CHARACTERS, 9):
        body = {"error": {"message": f"{'x' * padding} {KEY} more words"}}
        with running_app(answering(400, body)) as server:
            spec = spec_of(server.base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY")
            assert KEY[:6] not in str(asked(TEXTS[:1], spec))


@dataclass
class _Headers:
    seen: list[str] = field(default_factory=list)


@contextmanager
def header_server() -> Iterator[tuple[str, _Headers]]:
    headers = _Headers()
    app = FastAPI(openapi_url=None)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        headers.seen.append(repr(request.headers.items()))
        message = {"role": "assistant", "content": "fine"}
        return JSONResponse({"choices": [{"index": 0, "message": message}]})

    with running_app(app) as server:
        yield server.base_url, headers


def test_a_server_of_ones_own_is_shown_its_own_key_and_never_openais(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", f"{KEY}-admin")
    monkeypatch.setenv("LLM4CDSR_API_KEY", "own-key-9876")
    with caplog.at_level(logging.DEBUG), header_server() as (base_url, headers):
        asked(["one"], spec_of(base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY"))
        asked(["two"], spec_of(base_url, Role.CHAT, key_variable=None))
    assert "Bearer own-key-9876" in headers.seen[0]
    assert "Bearer none" in headers.seen[1]
    assert KEY not in "".join(headers.seen)
    assert "own-key-9876" not in caplog.text
    assert KEY not in caplog.text


def _everything_said_by(error: BaseException) -> str:
    """The messages of an error and of all errors behind it, as a traceback would print them."""
    said, current = "", error
    while current is not None:
        said += f"{current} {current!r} "
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return said
