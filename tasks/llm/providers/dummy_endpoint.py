"""Deterministic dummy of an LLM server, for flows without a key or a model.

It implements the OpenAI HTTP API. Embeddings are sums of hashed words, prefixes and trigrams, so
texts with common words are similar, which suffices for clustering and a demo. Chat answers are
composed of words of the prompt and marked as dummy.
"""

import base64
import contextlib
import hashlib
import itertools
import re
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from tasks.llm.providers.dummy_models import CHAT_MODEL, EMBEDDING_MODEL

DIMENSIONS = 384
SIGNATURE = "(Written by the dummy endpoint from the words of the prompt; no model was asked.)"

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"[^\W_]+")
_LIST_ENTRY = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+(.+)$", re.MULTILINE)
_ENGLISH_STOPWORDS = (
    "a an and are as at be been but by can do does for from has have he her his how i if in into "
    "is it its me more most my no not of on one only or other our out over own she so some than "
    "that the their them then there these they this to up us use was we were what when which who "
    "why will with you your each all any also both"
)
# Words that prompt templates repeat in every prompt, which would make embeddings near-identical.
_TEMPLATE_WORDS = (
    "attribute attributes brand categories category customer description descriptions domain "
    "feature features following item items name price title titles unknown user word words"
)
# The dummy's own phrases, which occur in later prompts without information.
_OWN_WORDS = "above interested interests"
_STOPWORDS = frozenset(f"{_ENGLISH_STOPWORDS} {_TEMPLATE_WORDS} {_OWN_WORDS}".split(" "))
_WORD_WEIGHT, _START_WEIGHT, _TRIGRAM_WEIGHT = 1.0, 0.6, 0.5
_START_LENGTH = 5
# Prompts begin with the title and end in prose, so weights decay: the word at this position has
# half the weight of the first. On the demo's catalogue, K-means then finds interests rather than
# phrases.
_EARLY_WORDS = 10
_WORDS_NAMED = 8
_CONTROL_SECONDS = 10.0


class UnusableRequestError(ValueError):
    """A request that the OpenAI API would refuse, with HTTP status and error code."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


class _ApiModel(BaseModel, extra="ignore"):
    """Fields without effect here (temperature, user, seed) are accepted, as by the real API."""


class EmbeddingBody(_ApiModel):
    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Literal[384] | None = None


class TextPart(_ApiModel):
    type: Literal["text"]
    text: str


class ChatMessage(_ApiModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class ChatBody(_ApiModel):
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: Literal[1] | None = None
    stream: Literal[False] | None = None


@dataclass(frozen=True, slots=True)
class DummyServer:
    """A running server; `base_url` is for OpenAI clients."""

    host: str
    port: int

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"


def embed_texts(texts: Sequence[str]) -> np.ndarray:
    """Returns unit vectors, float32 (texts, 384); equal texts have equal vectors in all processes.

    Raises UnusableRequestError if a text is blank.
    """
    blank = [position for position, text in enumerate(texts) if not text.strip()]
    if blank:
        raise UnusableRequestError(
            f"'input' cannot be an empty string (position {blank[0]}).", param="input"
        )
    vectors = np.stack([_text_vector(text) for text in texts])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / norms).astype(np.float32)


def write_answer(
    prompt: str, max_tokens: int | None = None
) -> tuple[str, Literal["stop", "length"]]:
    """Returns the answer to a user message and its finish reason, truncated to `max_tokens`.

    Words come from the prompt's list entries (lines with a bullet or number), if any, because the
    rest is instructions.
    """
    source = "\n".join(_LIST_ENTRY.findall(prompt)) or prompt
    words = [word for word in _words(source) if _is_content(word)]
    frequent = [word for word, _ in Counter(words).most_common(_WORDS_NAMED)]
    text = f"{_sentence(frequent)} {SIGNATURE}"
    if max_tokens is None:
        return text, "stop"
    ends = [match.end() for match in _TOKEN.finditer(text)]
    if len(ends) <= max_tokens:
        return text, "stop"
    return text[: ends[max_tokens - 1]], "length"


def build_app() -> FastAPI:
    """Returns the app with `/health`, `/v1/models`, `/v1/embeddings` and `/v1/chat/completions`."""
    app = FastAPI(title="LLM4CDSR dummy endpoint", openapi_url=None)
    numbers = itertools.count(1)

    @app.exception_handler(UnusableRequestError)
    async def refuse(_: Request, error: UnusableRequestError) -> JSONResponse:
        return _error(error.status, str(error), error.param)

    @app.exception_handler(RequestValidationError)
    async def refuse_malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _error(400, f"Invalid request: {where}: {first['msg']}", where or None)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{request.url.path}: {error.detail}", None)

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        cards = [
            {"id": name, "object": "model", "created": 0, "owned_by": "llm4cdsr"}
            for name in (CHAT_MODEL, EMBEDDING_MODEL)
        ]
        return JSONResponse({"object": "list", "data": cards})

    @app.post("/v1/embeddings")
    async def embeddings(request: EmbeddingBody) -> JSONResponse:
        _require_model(request.model, EMBEDDING_MODEL)
        texts = [request.input] if isinstance(request.input, str) else request.input
        if not texts:
            raise UnusableRequestError("'input' cannot be an empty array.", param="input")
        vectors = embed_texts(texts)
        data = [
            {"object": "embedding", "index": index, "embedding": _encode(vector, request)}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(_count_tokens(text) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse(
            {"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage}
        )

    @app.post("/v1/chat/completions")
    async def chat(request: ChatBody) -> JSONResponse:
        _require_model(request.model, CHAT_MODEL)
        user_texts = [message.text() for message in request.messages if message.role == "user"]
        if not user_texts:
            raise UnusableRequestError("'messages' holds no user message.", param="messages")
        limit = request.max_completion_tokens or request.max_tokens
        answer, reason = write_answer(user_texts[-1], limit)
        asked = sum(_count_tokens(message.text()) for message in request.messages)
        return JSONResponse(_completion(next(numbers), answer, reason, asked))

    return app


def serve(host: str, port: int) -> None:
    """Serves until interrupted, with uvicorn's log lines."""
    uvicorn.run(build_app(), host=host, port=port, ws="none")


@contextlib.contextmanager
def running_dummy_endpoint(port: int = 0) -> Iterator[DummyServer]:
    """Runs the endpoint in a thread on a real socket; port 0 selects a free one.

    Raises OSError if the port is taken.
    """
    with running_app(build_app(), port) as server:
        yield server


@contextlib.contextmanager
def running_app(
    app: FastAPI, port: int = 0, protocol: type[H11Protocol] = H11Protocol
) -> Iterator[DummyServer]:
    """Runs an app in a thread on a socket of 127.0.0.1 during the block.

    Open responses have one second to finish. Raises OSError if the port is taken.
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", port))
    with listener:
        # TCP_NODELAY, which asyncio does not set on sockets of create_server; without it every
        # response waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Clients may connect now: the kernel queues them until uvicorn accepts.
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield DummyServer("127.0.0.1", listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(_CONTROL_SECONDS)


def _text_vector(text: str) -> np.ndarray:
    words = _words(text)
    # A text of stop words or punctuation only also needs a vector.
    counted = [word for word in words if _is_content(word)] or words or [text]
    weights: defaultdict[str, float] = defaultdict(float)
    for position, word in enumerate(counted):
        weights[word] += _EARLY_WORDS / (_EARLY_WORDS + position)
    return sum(
        (weight * _word_vector(word) for word, weight in weights.items()),
        start=np.zeros(DIMENSIONS),
    )


@lru_cache(maxsize=65_536)
def _word_vector(word: str) -> np.ndarray:
    marked = f"<{word}>"
    trigrams = [marked[start : start + 3] for start in range(max(1, len(marked) - 2))]
    spelling = np.sum([_signs(f"trigram:{trigram}") for trigram in trigrams], axis=0)
    return (
        _WORD_WEIGHT * _signs(f"word:{word}")
        + _START_WEIGHT * _signs(f"start:{word[:_START_LENGTH]}")
        + _TRIGRAM_WEIGHT * spelling / len(trigrams) ** 0.5
    )


@lru_cache(maxsize=65_536)
def _signs(feature: str) -> np.ndarray:
    """Returns (384,) of -1 and 1: one bit of the digest per dimension."""
    digest = hashlib.blake2b(feature.encode(), digest_size=DIMENSIONS // 8).digest()
    return np.unpackbits(np.frombuffer(digest, dtype=np.uint8)) * 2.0 - 1.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.replace(SIGNATURE, " ").lower())


def _is_content(word: str) -> bool:
    return len(word) > 2 and word not in _STOPWORDS and not word.isdecimal()


def _sentence(words: Sequence[str]) -> str:
    if not words:
        return "Nothing can be said about these interests."
    main, rest = words[:3], words[3:]
    sentence = f"Interested above all in {', '.join(main)}"
    return f"{sentence}; also in {', '.join(rest)}." if rest else f"{sentence}."


def _count_tokens(text: str) -> int:
    return sum(1 for _ in _TOKEN.finditer(text))


def _encode(vector: np.ndarray, request: EmbeddingBody) -> str | list[float]:
    if request.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector.tolist()


def _completion(number: int, answer: str, reason: str, prompt_tokens: int) -> dict[str, object]:
    written = _count_tokens(answer)
    message = {"role": "assistant", "content": answer}
    return {
        "id": f"chatcmpl-dummy-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": CHAT_MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": written,
            "total_tokens": prompt_tokens + written,
        },
    }


def _require_model(name: str, served: str) -> None:
    if name != served:
        raise UnusableRequestError(
            f"The model '{name}' does not exist for this route; use '{served}'.",
            status=404,
            param="model",
        )


def _error(status: int, message: str, param: str | None) -> JSONResponse:
    code = "model_not_found" if status == 404 and param == "model" else None
    body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": body}, status_code=status)
