"""Asks a server some texts, and checks that each has its one right outcome."""

import numpy as np
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from artifacts.ledger.answers import Answer
from prompts.render import ChatPrompt, Message
from tasks.llm.client.ask import complete, embed
from tasks.llm.client.jobs import ChatRequest, EmbeddingRequest, Outcome
from tasks.llm.providers.dummy_endpoint import (
    embed_texts,
    write_answer,
)
from tasks.llm.settings.llm_config import EndpointSpec

TEXTS = [f"espresso {word}" for word in ("pot", "cup", "mill", "scale", "filter", "jug", "brush")]


def embedded(texts: list[str], spec: EndpointSpec, width: int | None = None) -> dict[str, Outcome]:
    """The outcome of every text; that there is exactly one of each is checked."""
    found: list[Outcome] = []
    embed([EmbeddingRequest(text, text) for text in texts], spec, found.extend, width)
    assert sorted(outcome.key for outcome in found) == sorted(texts)
    return {outcome.key: outcome for outcome in found}


def asked(texts: list[str], spec: EndpointSpec) -> dict[str, Outcome]:
    found: list[Outcome] = []
    complete([question(text) for text in texts], spec, found.extend)
    assert sorted(outcome.key for outcome in found) == sorted(texts)
    return {outcome.key: outcome for outcome in found}


def question(text: str) -> ChatRequest:
    return ChatRequest(text, ChatPrompt(messages=(Message(role="user", content=text),)), 50)


def assert_right_vectors(found: dict[str, Outcome]) -> None:
    for text, outcome in found.items():
        assert isinstance(outcome, Answer), outcome
        np.testing.assert_array_equal(outcome.vector, embed_texts([text])[0])


def assert_right_texts(found: dict[str, Outcome]) -> None:
    for text, outcome in found.items():
        assert isinstance(outcome, Answer), outcome
        assert outcome.text == write_answer(text, 50)[0]


def answering(status: int, body: object) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/v1/{route:path}")
    async def answer(route: str) -> Response:
        if isinstance(body, str):
            return PlainTextResponse(body, status, media_type="application/json")
        return JSONResponse(body, status)

    return app


class CountedRequests:
    """An ASGI app that counts what it is asked."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope, receive, send) -> None:  # noqa: ANN001
        self.requests += scope["type"] == "http"
        await self.app(scope, receive, send)
