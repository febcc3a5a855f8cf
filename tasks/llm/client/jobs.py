"""Jobs: one chat prompt or a batch of texts, with its state.

A failed batch is bisected until the offending text is isolated. All parts share an `Origin`, so
that failures caused by one text are counted once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

from pydantic import JsonValue

from artifacts.ledger.answers import Answer, Role
from prompts.render import ChatPrompt, Message
from tasks.llm.client.checks.answer_checks import (
    TOO_LONG,
    checked_text,
    is_within,
    marked,
    words_in,
)
from tasks.llm.client.checks.vector_checks import BadVector, VectorWidth, checked_vectors
from tasks.llm.client.failures.fault_kinds import SYSTEM, Sent
from tasks.llm.client.servers.dialect import Body, RequestChange
from tasks.llm.settings.budget import tokens_at_most
from tasks.llm.settings.request_fields import as_sent, chat_fields
from tasks.llm.settings.urls import CHAT_ROUTE, EMBEDDINGS_ROUTE

SHORTER = "Say it again, in the same language, in at most {words} words."


@dataclass(frozen=True)
class Failure:
    """A prompt without a usable answer, with the reason."""

    key: str
    reason: str


@dataclass(frozen=True)
class ChatRequest:
    """One chat prompt; ``key`` is the ledger's. An answer of more than ``max_words`` is requested
    once more."""

    key: str
    prompt: ChatPrompt
    max_tokens: int
    max_words: int | None = None


@dataclass(frozen=True)
class EmbeddingRequest:
    """One text to embed; ``key`` is the ledger's."""

    key: str
    text: str


Outcome = Answer | Failure


class Size(NamedTuple):
    """Maximum tokens of a request."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(eq=False)
class Origin:
    """Original job of bisected parts. ``refused_at``: smallest refused number of texts;
    ``is_certain``: refused explicitly, not by a possibly temporary error."""

    texts: int
    first_fault_at: float | None = None
    refused_at: int | None = None
    is_certain: bool = False
    _taken_at: int = 0
    _answered: int = 0

    def took(self, texts: int, answered: int) -> int | None:
        """Counts a successful request.

        Returns the maximum number of texts of the servers, if all texts are answered and were
        refused only in larger batches.
        """
        self._taken_at = max(self._taken_at, texts)
        self._answered += answered
        is_whole = self._answered == self.texts
        if not is_whole or self.refused_at is None or self._taken_at >= self.refused_at:
            return None
        return self._taken_at


@dataclass(eq=False)
class Job(ABC):
    """A request with its history. ``failed``, ``bad`` and ``busy`` count faults by kind;
    ``first_fault_at`` is the time of the first one; ``changes`` are unconfirmed adaptations."""

    origin: Origin
    changes: frozenset[RequestChange] = frozenset()
    failed: int = 0
    bad: int = 0
    busy: int = 0
    first_fault_at: float | None = None

    route: ClassVar[str]

    @property
    @abstractmethod
    def texts(self) -> int:
        """Number of texts."""

    @property
    @abstractmethod
    def first_key(self) -> str:
        """Ledger key of the first text."""

    @property
    @abstractmethod
    def size(self) -> Size:
        """Maximum tokens."""

    @abstractmethod
    def body(self, model: str, fields: Body) -> Body:
        """Returns the default body of the request; ``fields`` are configured ones."""

    @abstractmethod
    def sent(self, body: Body) -> Sent:
        """Returns the properties of a body for fault classification."""

    @abstractmethod
    def read(self, reply: JsonValue) -> tuple[list[Outcome], "list[Job]"]:
        """Returns outcomes and follow-up jobs; raises `BadAnswerError`."""

    @abstractmethod
    def failures(self, reason: str) -> list[Outcome]:
        """Returns the outcomes of a final failure."""

    def unfinished(self) -> list[Outcome]:
        """Returns the partial outcomes at an early end."""
        return []


@dataclass(eq=False)
class ChatJob(Job):
    """A chat prompt; with a ``draft``, the request for a shorter answer."""

    route: ClassVar[str] = CHAT_ROUTE

    request: ChatRequest = field(kw_only=True)
    draft: Answer | None = None

    @property
    def texts(self) -> int:
        return 1

    @property
    def first_key(self) -> str:
        return self.request.key

    @property
    def size(self) -> Size:
        read = sum(tokens_at_most(message.content) for message in self._messages())
        return Size(read, self.request.max_tokens)

    def body(self, model: str, fields: Body) -> Body:
        return {
            "model": model,
            "messages": [{"role": said.role, "content": said.content} for said in self._messages()],
            **as_sent(chat_fields(self.request.max_tokens, fields)),
        }

    def sent(self, body: Body) -> Sent:
        messages = body["messages"]
        first = messages[0] if isinstance(messages, list) and messages else None
        return Sent(body, isinstance(first, dict) and first.get("role") == SYSTEM)

    def read(self, reply: JsonValue) -> tuple[list[Outcome], list[Job]]:
        """An answer that remains too long is kept and flagged."""
        answer = checked_text(self.request.key, reply)
        if self.draft is not None:
            return [self._shorter_of(self.draft, answer)], []
        if is_within(answer, self.request.max_words):
            return [answer], []
        return [], [ChatJob(self.origin, request=self.request, draft=answer)]

    def failures(self, reason: str) -> list[Outcome]:
        return self.unfinished() or [Failure(self.request.key, reason)]

    def unfinished(self) -> list[Outcome]:
        """The long answer is kept, because it is paid for."""
        return [] if self.draft is None else [replace(self.draft, finish_reason=TOO_LONG)]

    def _messages(self) -> tuple[Message, ...]:
        messages = self.request.prompt.messages
        if self.draft is None:
            return messages
        reminder = SHORTER.format(words=self.request.max_words)
        return (
            *messages,
            Message(role="assistant", content=self.draft.text or ""),
            Message(role="user", content=reminder),
        )

    def _shorter_of(self, draft: Answer, again: Answer) -> Answer:
        kept = again if words_in(again.text or "") < words_in(draft.text or "") else draft
        return replace(
            marked(kept, self.request.max_words),
            prompt_tokens=draft.prompt_tokens + again.prompt_tokens,
            completion_tokens=draft.completion_tokens + again.completion_tokens,
        )


@dataclass(eq=False)
class EmbeddingJob(Job):
    """Texts to embed in one request."""

    route: ClassVar[str] = EMBEDDINGS_ROUTE

    requests: Sequence[EmbeddingRequest] = field(kw_only=True)
    expected: VectorWidth = field(kw_only=True)

    @property
    def texts(self) -> int:
        return len(self.requests)

    @property
    def first_key(self) -> str:
        return self.requests[0].key

    @property
    def size(self) -> Size:
        return Size(sum(tokens_at_most(request.text) for request in self.requests), 0)

    def body(self, model: str, fields: Body) -> Body:
        texts: list[JsonValue] = [request.text for request in self.requests]
        return {"model": model, "input": texts, **as_sent({"encoding_format": "base64", **fields})}

    def sent(self, body: Body) -> Sent:
        return Sent(body, texts=self.texts)

    def read(self, reply: JsonValue) -> tuple[list[Outcome], list[Job]]:
        """Texts without a valid vector are resent separately."""
        keys = [request.key for request in self.requests]
        found = checked_vectors(keys, reply, self.expected)
        good: list[Outcome] = [outcome for outcome in found if isinstance(outcome, Answer)]
        again: list[Job] = [
            self.part([request], bad=self.bad + 1)
            for request, outcome in zip(self.requests, found, strict=True)
            if isinstance(outcome, BadVector)
        ]
        return good, again

    def failures(self, reason: str) -> list[Outcome]:
        return [Failure(request.key, reason) for request in self.requests]

    def part(self, requests: Sequence[EmbeddingRequest], bad: int = 0) -> "EmbeddingJob":
        """Returns a job with some of the texts."""
        return EmbeddingJob(
            self.origin, self.changes, bad=bad, requests=requests, expected=self.expected
        )

    def in_parts_of(self, texts: int) -> "list[EmbeddingJob]":
        """Returns jobs with all texts, `size` per request."""
        starts = range(0, self.texts, texts)
        return [self.part(self.requests[start : start + texts]) for start in starts]

    def apart(self, alone: Callable[[EmbeddingRequest], bool]) -> "list[EmbeddingJob]":
        """Returns jobs with each of those texts alone, then one with the others."""
        single = [self.part([request]) for request in self.requests if alone(request)]
        rest = [request for request in self.requests if not alone(request)]
        return [*single, *([self.part(rest)] if rest else [])]

    def shortest_apart(self) -> "list[EmbeddingJob]":
        """Returns the shortest text, the least likely to be refused, and the others."""
        least = min(self.requests, key=lambda request: len(request.text))
        return self.apart(lambda request: request is least)

    def longest_apart(self) -> "list[EmbeddingJob]":
        """Returns the longest text, and the others."""
        most = max(self.requests, key=lambda request: len(request.text.encode()))
        return self.apart(lambda request: request is most)


def control_job(role: Role) -> Job:
    """Returns a minimal request, whose answer is not stored."""
    if role is Role.CHAT:
        prompt = ChatPrompt(messages=(Message(role="user", content="Hello"),))
        return ChatJob(Origin(1), request=ChatRequest("", prompt, max_tokens=16))
    request = EmbeddingRequest("", "hello")
    return EmbeddingJob(Origin(1), requests=[request], expected=VectorWidth(None))
