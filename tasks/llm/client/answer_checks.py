"""Is an answer what was asked for? What is not goes no further than here, least of all into the
ledger, where it would stay."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pybase64
from pydantic import BaseModel

from artifacts.ledger.answers import Answer

TOO_LONG = "too_long"
"""The ``finish_reason`` of an answer that stayed longer than asked for: kept, and marked."""

FLOAT_BYTES = 4

_HAN_OR_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


class BadAnswer(ValueError):
    """The server answered, but not with what was asked for."""


class Usage(BaseModel):
    """The tokens that a server counted; some leave out what does not apply."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Message(BaseModel):
    """What a model said."""

    content: str | None = None


class Choice(BaseModel):
    """One of the answers to a question; we ask for one."""

    message: Message
    finish_reason: str | None = None


class ChatReply(BaseModel):
    """What we read of a completion. The `openai` package's own types check nothing, and making
    them takes longer than all that we do with an answer."""

    choices: list[Choice] = []
    usage: Usage | None = None


class Entry(BaseModel):
    """One vector, as base64 of little-endian float32 or as a list."""

    index: int = 0
    embedding: str | list[float]


class EmbeddingReply(BaseModel):
    """What we read of an answer with vectors."""

    data: list[Entry]
    usage: Usage | None = None


@dataclass
class VectorWidth:
    """The length that all vectors of one model have; a replica with another model shows here."""

    value: int | None

    def check(self, width: int) -> None:
        """Raises `BadAnswer` where vectors of this length do not go with the earlier ones."""
        if self.value is None:
            self.value = width
        if width != self.value:
            raise BadAnswer(
                f"vectors of {width} numbers came back where earlier ones have {self.value}; "
                "has the model behind this name changed?"
            )


def checked_text(key: str, body: object) -> Answer:
    """Returns the answer of a completion, given the JSON data of its body.

    Raises:
        BadAnswer: it has no text.
        pydantic.ValidationError: it is no completion.
    """
    reply = ChatReply.model_validate(body)
    if not reply.choices:
        raise BadAnswer("the answer has no choices")
    choice = reply.choices[0]
    text = (choice.message.content or "").strip()
    if not text:
        raise BadAnswer(f"the answer is empty (finish_reason {choice.finish_reason})")
    return Answer(
        key=key,
        text=text,
        vector=None,
        finish_reason=choice.finish_reason or "unknown",
        prompt_tokens=(reply.usage and reply.usage.prompt_tokens) or 0,
        completion_tokens=(reply.usage and reply.usage.completion_tokens) or 0,
    )


def words_in(text: str) -> int:
    """Returns the words of a text; of Chinese and Japanese each character counts as one."""
    return len(_HAN_OR_KANA.sub(" x ", text).split())


def is_within(answer: Answer, max_words: int | None) -> bool:
    """Whether an answer keeps to a limit of words. One that was cut is marked as that already."""
    cut = answer.finish_reason == "length"
    return cut or max_words is None or words_in(answer.text or "") <= max_words


def marked(answer: Answer, max_words: int | None) -> Answer:
    """Returns an answer that says of itself whether it is longer than asked for."""
    if is_within(answer, max_words):
        return answer
    return replace(answer, finish_reason=TOO_LONG)


def checked_vectors(keys: list[str], body: object, expected: VectorWidth) -> list[Answer]:
    """Returns one answer a key, in the order of the keys, whatever the order of the reply.

    ``body`` is the JSON data of the reply.

    Raises:
        BadAnswer: too many or too few vectors, of unlike lengths, zero, or not finite.
        pydantic.ValidationError: it holds no vectors.
    """
    reply = EmbeddingReply.model_validate(body)
    entries = {entry.index: entry.embedding for entry in reply.data}
    if sorted(entries) != list(range(len(keys))) or len(reply.data) != len(keys):
        raise BadAnswer(f"{len(reply.data)} vectors came back for {len(keys)} texts")
    encoded = [_vector_bytes(entries[i]) for i in range(len(keys))]
    lengths = {len(one) for one in encoded}
    if len(lengths) != 1:
        raise BadAnswer("vectors of different lengths came back")
    width, rest = divmod(lengths.pop(), FLOAT_BYTES)
    if rest:
        raise BadAnswer(f"a vector ends within a number, {rest} bytes after number {width}")
    vectors = np.frombuffer(b"".join(encoded), "<f4").reshape(len(keys), width)
    if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
        raise BadAnswer("a vector is zero or not finite")
    expected.check(width)
    tokens = (reply.usage and reply.usage.prompt_tokens) or 0
    shares = np.diff(np.linspace(0, tokens, len(keys) + 1).astype(int))
    return [
        Answer(key, None, vector, "stop", int(share), 0)
        for key, vector, share in zip(keys, vectors, shares, strict=True)
    ]


def _vector_bytes(encoded: str | list[float]) -> bytes:
    """Servers answer base64 when asked for it; those that know only lists are understood too."""
    if isinstance(encoded, str):
        return pybase64.b64decode(encoded, validate=True)
    return np.asarray(encoded, "<f4").tobytes()
