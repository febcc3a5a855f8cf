"""What is asked at once, on its way to an outcome: one question, or a batch of texts.

A batch without a result is taken apart until the offending text is isolated. All parts share an
`Origin`, so that what one text causes is counted as one cause.
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
    """A prompt without a usable answer, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class ChatRequest:
    """One question; ``key`` is the ledger's. An answer of more than ``max_words`` is asked for
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
    """The tokens that a request has at most."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(eq=False)
class Origin:
    """What a job was part of at first.

    ``refused_at``: the smallest number of texts that was refused together; ``is_certain``: by the
    server's word, not by an error that may have passed.
    """

    texts: int
    first_fault_at: float | None = None
    refused_at: int | None = None
    is_certain: bool = False
    _taken_at: int = 0
    _answered: int = 0

    def took(self, texts: int, answered: int) -> int | None:
        """Counts a request that succeeded.

        Returns how many texts the servers take at once, where all are answered by now, and were
        refused only as long as they were more.
        """
        self._taken_at = max(self._taken_at, texts)
        self._answered += answered
        is_whole = self._answered == self.texts
        if not is_whole or self.refused_at is None or self._taken_at >= self.refused_at:
            return None
        return self._taken_at


@dataclass(eq=False)
class Job(ABC):
    """One request to be, with what it has been through.

    ``failed``, ``bad`` and ``busy`` count its faults by kind; ``changes`` are tried on it and not
    yet known to help.
    """

    origin: Origin
    changes: frozenset[RequestChange] = frozenset()
    failed: int = 0
    bad: int = 0
    busy: int = 0

    route: ClassVar[str]

    @property
    @abstractmethod
    def texts(self) -> int:
        """How many texts the request holds."""

    @property
    @abstractmethod
    def size(self) -> Size:
        """What it may take."""

    @abstractmethod
    def body(self, model: str, fields: Body) -> Body:
        """The request's body as it is usually written; ``fields`` are those that are configured."""

    @abstractmethod
    def sent(self, body: Body) -> Sent:
        """What of a body may be blamed."""

    @abstractmethod
    def read(self, reply: JsonValue) -> tuple[list[Outcome], "list[Job]"]:
        """Returns outcomes, and what is still to be asked; raises `BadAnswerError`."""

    @abstractmethod
    def failures(self, reason: str) -> list[Outcome]:
        """What becomes of it where nothing helps."""

    def unfinished(self) -> list[Outcome]:
        """What is known already where the asking ends early."""
        return []


@dataclass(eq=False)
class ChatJob(Job):
    """A question; with a ``draft``, the question for a shorter answer than that."""

    route: ClassVar[str] = CHAT_ROUTE

    request: ChatRequest = field(kw_only=True)
    draft: Answer | None = None

    @property
    def texts(self) -> int:
        return 1

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
        """An answer that stays too long is kept, and marked."""
        answer = checked_text(self.request.key, reply)
        if self.draft is not None:
            return [self._shorter_of(self.draft, answer)], []
        if is_within(answer, self.request.max_words):
            return [answer], []
        return [], [ChatJob(self.origin, request=self.request, draft=answer)]

    def failures(self, reason: str) -> list[Outcome]:
        return self.unfinished() or [Failure(self.request.key, reason)]

    def unfinished(self) -> list[Outcome]:
        """The long answer came, and is paid for."""
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
    def size(self) -> Size:
        return Size(sum(tokens_at_most(request.text) for request in self.requests), 0)

    def body(self, model: str, fields: Body) -> Body:
        texts: list[JsonValue] = [request.text for request in self.requests]
        return {"model": model, "input": texts, **as_sent({"encoding_format": "base64", **fields})}

    def sent(self, body: Body) -> Sent:
        return Sent(body, texts=self.texts)

    def read(self, reply: JsonValue) -> tuple[list[Outcome], list[Job]]:
        """A text without a usable vector among good ones is asked for again, alone."""
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
        """Some of its texts as a request of their own."""
        return EmbeddingJob(
            self.origin, self.changes, bad=bad, requests=requests, expected=self.expected
        )

    def in_parts_of(self, texts: int) -> "list[EmbeddingJob]":
        """All of its texts, so many a request."""
        starts = range(0, self.texts, texts)
        return [self.part(self.requests[start : start + texts]) for start in starts]

    def apart(self, alone: Callable[[EmbeddingRequest], bool]) -> "list[EmbeddingJob]":
        """Those texts alone, the others together behind them."""
        single = [self.part([request]) for request in self.requests if alone(request)]
        rest = [request for request in self.requests if not alone(request)]
        return [*single, *([self.part(rest)] if rest else [])]

    def shortest_apart(self) -> "list[EmbeddingJob]":
        """The shortest text alone, which is the least likely to be refused, and the others."""
        least = min(self.requests, key=lambda request: len(request.text))
        return self.apart(lambda request: request is least)

    def longest_apart(self) -> "list[EmbeddingJob]":
        """The longest text alone, and the others."""
        most = max(self.requests, key=lambda request: len(request.text.encode()))
        return self.apart(lambda request: request is most)


def control_job(role: Role) -> Job:
    """Returns the least that a model can be asked; its answer is no prompt's, and is not kept."""
    if role is Role.CHAT:
        prompt = ChatPrompt(messages=(Message(role="user", content="Hello"),))
        return ChatJob(Origin(1), request=ChatRequest("", prompt, max_tokens=16))
    request = EmbeddingRequest("", "hello")
    return EmbeddingJob(Origin(1), requests=[request], expected=VectorWidth(None))
