"""Extraction of text or vectors from JSON responses: OpenAI's format first, then others.

Servers behind a gateway may respond in their own format: completions (`choices[].text`), streams of
one chunk (`delta`), Ollama, Anthropic, Gemini, the Responses API, Text Generation Inference,
Cohere, and wrappers such as `{"result": …}`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

_WRAPPERS = ("result", "output", "response", "data", "body")
_MESSAGES = ("message", "delta")
_TEXTS = ("generated_text", "output_text", "text", "content", "response", "output")
_PLAIN = frozenset({"generated_text", "output_text"})
_FINISHES = ("finish_reason", "stop_reason", "done_reason", "finishReason", "stop_type", "status")
_MARKS = frozenset({*_FINISHES, "usage", "done", "stop"} - {"status"})
"""Fields that must accompany a text, because `{"response": "queued"}` is not an answer."""

_CUT = frozenset({"max_tokens", "max_output_tokens", "limit", "incomplete"})
_VECTORS = ("embedding", "values", "vector")
_REASON = re.compile(r"[\w .:/-]{1,40}")
_DEEPEST = 3


class Completion(NamedTuple):
    """One completion. ``content`` is a text or parts of it; ``finish`` is "unknown" without a
    reason, and "length" for all words for truncation."""

    message: Mapping[str, JsonValue]
    content: JsonValue
    finish: str


class SentVector(NamedTuple):
    """One vector as sent, with its index (None without one)."""

    embedding: JsonValue
    place: JsonValue


def completion_in(body: JsonValue) -> Completion | None:
    """Returns the first completion of a response; None for an unknown format."""
    for _ in range(_DEEPEST):
        if isinstance(body, list):
            body = body[0] if body else None
        if not isinstance(body, dict):
            return None
        for name in ("choices", "candidates", "generations", "results"):
            if name in body:
                choices = body[name]
                first = _first_choice(choices)
                return _said(first, is_choice=True) if isinstance(first, dict) else None
        if (said := _said(body, is_choice=False)) is not None:
            return said
        body = next(
            (body[name] for name in _WRAPPERS if isinstance(body.get(name), dict | list)), None
        )
    return None


def entries_in(body: JsonValue) -> Sequence[SentVector] | None:
    """Returns the vectors of a response as sent; None for an unknown format."""
    for _ in range(_DEEPEST):
        if isinstance(body, list):
            return [_entry(entry) for entry in body]
        if not isinstance(body, dict):
            return None
        for name in ("data", "embeddings", "predictions"):
            found = body.get(name)
            if isinstance(found, list):
                return [_entry(entry) for entry in found]
            if isinstance(found, dict) and isinstance(by_type := found.get("float"), list):
                return [_entry(entry) for entry in by_type]  # Cohere: one list per number type.
        if any(name in body for name in _VECTORS):
            return [_entry(body)]
        body = next((body[name] for name in _WRAPPERS if isinstance(body.get(name), dict)), None)
    return None


def _first_choice(choices: JsonValue) -> JsonValue:
    """Returns the choice with index 0 of several in any order."""
    if not isinstance(choices, list) or not choices:
        return None
    first = choices[0]
    if len(choices) == 1 or (isinstance(first, dict) and first.get("index") == 0):
        return first
    named = (each for each in choices if isinstance(each, dict) and each.get("index") == 0)
    return next(named, first)


def _said(choice: Mapping[str, JsonValue], *, is_choice: bool) -> Completion | None:
    finish = choice.get("finish_reason")
    if not isinstance(finish, str) or not finish:
        reasons = (choice.get(name) for name in _FINISHES)
        finish = next((said for said in reasons if isinstance(said, str) and said), "unknown")
    finish = "length" if finish.lower() in _CUT else finish
    finish = finish if _REASON.fullmatch(finish) else "unknown"
    for name in _MESSAGES:
        message = choice.get(name)
        if isinstance(message, dict):
            return Completion(message, message.get("content"), finish)
    for name in _TEXTS:
        content = choice.get(name)
        if isinstance(content, dict) and "parts" in content:
            content = content["parts"]  # Gemini
        is_text = isinstance(content, str) and (
            is_choice or name in _PLAIN or not _MARKS.isdisjoint(choice)
        )
        if is_text or _is_parts(content):
            return Completion(choice, content, finish)
    return None


def _is_parts(content: JsonValue) -> bool:
    """Whether a list holds a text in parts, some of which may be reasoning."""
    return (
        isinstance(content, list)
        and all(isinstance(part, dict) for part in content)
        and any(isinstance(part, dict) and {"text", "content"} & part.keys() for part in content)
    )


def _entry(entry: JsonValue) -> SentVector:
    if not isinstance(entry, dict):
        return SentVector(entry, None)
    found = entry.get("embedding")
    if found is None:
        found = next((entry[name] for name in (*_VECTORS, "embeddings") if name in entry), None)
    if isinstance(found, dict):  # Gemini and Vertex
        found = found.get("values")
    return SentVector(found, entry.get("index"))
