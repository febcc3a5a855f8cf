"""Adaptation of requests to a model's servers, learned from refusals and kept for the run.

A refused field is removed, renamed or rewritten, and the request repeated. A successful change
applies to all later requests. Changes are not part of the ledger's keys, because the prompt is the
same.
"""

import logging
from collections.abc import Collection
from typing import NamedTuple

from pydantic import JsonValue

from tasks.llm.client.failures.fault_kinds import SYSTEM

Body = dict[str, JsonValue]

MAX_TOKENS, MAX_COMPLETION_TOKENS = "max_tokens", "max_completion_tokens"

OPTIONAL = frozenset({"temperature", "encoding_format", "dimensions"})
"""Fields that may be removed; others change the answer or were configured."""

logger = logging.getLogger("llm4cdsr")


class RequestChange(NamedTuple):
    """One change of the default request: a field and its replacement."""

    field: str
    how: str


RENAMED = RequestChange(MAX_TOKENS, f"written as {MAX_COMPLETION_TOKENS}")
NO_SYSTEM = RequestChange(SYSTEM, "prepended to the first user message")
TEXT_INPUT = RequestChange("input", "one text per request, not in a list")


class Dialect:
    """Known properties of a model's servers. Use on the event loop only.

    ``batch_limit``: texts per request. ``long_bytes``: bytes of a text that was too long.
    ``is_proven``: a request has succeeded.
    """

    def __init__(self) -> None:
        self.changes: frozenset[RequestChange] = frozenset()
        self.batch_limit: int | None = None
        self.long_bytes: int | None = None
        self.is_proven = False
        self._hints = 0
        self._whole = 0
        self._short: list[frozenset[str]] = []

    @property
    def is_searching(self) -> bool:
        """Whether batches returned too few vectors and the limit is not known yet."""
        return bool(self._short) and self.batch_limit is None

    def learn(self, changes: Collection[RequestChange], model: str) -> None:
        """Stores the changes of a successful request."""
        for change in changes:
            if change not in self.changes:
                logger.info("%s does not take %s: %s from now on", model, change.field, change.how)
        self.changes = self.changes.union(changes)

    def limit_batch(self, texts: int, model: str, *, is_certain: bool = True) -> None:
        """Stores a maximum number of texts; the smallest one applies.

        Limits suggested by server errors must occur twice, and not be below a number that was
        accepted, because these errors may be temporary.
        """
        if not is_certain:
            self._hints += texts >= self._whole
            if self._hints < 2 or texts < self._whole:
                return
        if self.batch_limit is None or texts < self.batch_limit:
            logger.info("%s accepts at most %d texts per request from now on", model, texts)
            self.batch_limit = texts

    def came_short(self, keys: Collection[str], model: str) -> None:
        """Registers a batch with a wrong number of vectors.

        One dropped text is the fault of the text. Two disjoint batches, of sizes that never
        succeeded, show a limit of the server.
        """
        self._short.append(frozenset(keys))
        self._limit_to_whole(model)

    def came_whole(self, texts: int, model: str) -> None:
        """Registers a batch with a vector for each text."""
        if texts > self._whole:
            self._whole = texts
        if self._short:
            self._short = [batch for batch in self._short if len(batch) > self._whole]
            self._limit_to_whole(model)

    def _limit_to_whole(self, model: str) -> None:
        seen = self._short
        are_apart = any(one.isdisjoint(other) for one in seen for other in seen if one is not other)
        if self._whole and are_apart:
            self._short = []
            self.limit_batch(self._whole, model)


def change_for(field: str, fixed: Collection[str], texts: int) -> RequestChange | None:
    """Returns the replacement of a refused field, None without one.

    ``fixed``: configured fields, which are not removed.
    """
    if field == SYSTEM:
        return NO_SYSTEM
    if field == MAX_TOKENS and field not in fixed:
        return RENAMED
    if field == "input":
        return TEXT_INPUT if texts == 1 else None
    if field in OPTIONAL and (field == "dimensions" or field not in fixed):
        return RequestChange(field, "left out")
    return None


def written(body: Body, changes: Collection[RequestChange]) -> Body:
    """Returns a request's body with the changes applied."""
    if not changes:
        return body
    body = dict(body)
    for change in changes:
        if change == NO_SYSTEM:
            body["messages"] = _without_system(body["messages"])
        elif change == RENAMED:
            if MAX_TOKENS in body:
                body[MAX_COMPLETION_TOKENS] = body.pop(MAX_TOKENS)
        elif change == TEXT_INPUT:
            texts = body["input"]
            body["input"] = texts[0] if isinstance(texts, list) else texts
        else:
            body.pop(change.field, None)
    return body


def _without_system(messages: JsonValue) -> JsonValue:
    if not isinstance(messages, list) or not messages:
        return messages
    first, *rest = messages
    if not isinstance(first, dict) or first.get("role") != SYSTEM or not rest:
        return messages
    user = rest[0]
    if not isinstance(user, dict) or user.get("role") != "user":
        return [{**first, "role": "user"}, *rest]
    return [{**user, "content": f"{first['content']}\n\n{user['content']}"}, *rest[1:]]
