"""What a model's servers were found to take of our requests: learnt once, kept for the run.

A field that is refused is left out, renamed or written otherwise, and the request repeated. What
then succeeds holds for all later requests. None of it is part of a ledger's key: the question is
the same, and whoever has its answer need not pay again.
"""

import logging
from collections.abc import Collection
from typing import NamedTuple

from pydantic import JsonValue

from tasks.llm.client.failures.fault_kinds import SYSTEM

Body = dict[str, JsonValue]

MAX_TOKENS, MAX_COMPLETION_TOKENS = "max_tokens", "max_completion_tokens"

OPTIONAL = frozenset({"temperature", "encoding_format", "dimensions"})
"""Fields of ours that may be left out; others change what is asked, or are the user's own."""

logger = logging.getLogger("llm4cdsr")


class RequestChange(NamedTuple):
    """One departure from the usual request: a field, and how it is written instead."""

    field: str
    how: str


RENAMED = RequestChange(MAX_TOKENS, f"written as {MAX_COMPLETION_TOKENS}")
NO_SYSTEM = RequestChange(SYSTEM, "put before the first message of the user")
TEXT_INPUT = RequestChange("input", "one text a request, not in a list")


class Dialect:
    """What is known of one model's servers. Belongs to the asking loop.

    ``batch_limit``: texts a request. ``long_bytes``: a text of so many bytes was too long, and
    would spoil the others' request. ``is_proven``: a request has succeeded.
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
        """Whether batches came back short, and it is not known yet how many texts do not."""
        return bool(self._short) and self.batch_limit is None

    def learn(self, changes: Collection[RequestChange], model: str) -> None:
        """Keeps what made a request succeed."""
        for change in changes:
            if change not in self.changes:
                logger.info("%s takes no %s: %s from now on", model, change.field, change.how)
        self.changes = self.changes.union(changes)

    def limit_batch(self, texts: int, model: str, *, is_certain: bool = True) -> None:
        """Keeps how many texts a request may hold; the smallest number that was learnt counts.

        What server errors hint at must be seen twice: they may have passed by themselves.
        """
        self._hints += 1
        if not is_certain and self._hints < 2:
            return
        if self.batch_limit is None or texts < self.batch_limit:
            logger.info("%s takes %d texts a request: not more from now on", model, texts)
            self.batch_limit = texts

    def came_short(self, keys: Collection[str], model: str) -> None:
        """Notes a batch that came back with another number of vectors.

        One dropped text is that text's fault. Two batches that share no text, of sizes that
        never came back whole, are the server's way with batches.
        """
        self._short.append(frozenset(keys))
        self._limit_to_whole(model)

    def came_whole(self, texts: int, model: str) -> None:
        """Notes a batch that came back with a vector for each text."""
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
    """Returns how a refused field may be written instead; None where there is no way.

    ``fixed``: fields that were configured, which are not left out.
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
    """Returns a request's body with the changes made."""
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
