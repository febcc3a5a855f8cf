"""JSONL files of a batch: requests and results.

One line per prompt; ``custom_id`` is the ledger's key. OpenAI's Batch API and ``vllm run-batch``
use the same format.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import BaseModel, JsonValue, ValidationError

from artifacts import columns as col
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.claims import PROMPT
from prompts.render import one_line
from tasks.llm.client.checks.answer_checks import BadAnswerError, checked_text
from tasks.llm.client.checks.vector_checks import VectorWidth, checked_vectors
from tasks.llm.client.failures.server_errors import error_in
from tasks.llm.client.jobs import Failure
from tasks.llm.client.servers.transport import MOST_CHAT_BYTES
from tasks.llm.settings.request_fields import as_sent

ROUTES = {Role.CHAT: "/v1/chat/completions", Role.EMBEDDING: "/v1/embeddings"}

CANCELLED = "batch_cancelled"
EXPIRED = "batch_expired"

_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({CANCELLED, EXPIRED, "rate_limit_exceeded", "server_error"})
REASON_CHARACTERS = 300

logger = logging.getLogger("llm4cdsr")


@dataclass(frozen=True)
class RetryLater:
    """A temporary failure of a prompt; ``reason`` is recorded after the last attempt."""

    key: str
    reason: str


@dataclass(frozen=True)
class BatchHeader:
    """Common fields of all lines of a file. ``parameters`` as in the ledger's key."""

    role: Role
    model: str
    parameters: dict[str, JsonValue]


class _Loose(BaseModel, extra="ignore"):
    """Unknown fields of the server are ignored."""


class _Response(_Loose):
    status_code: int
    body: JsonValue = None


class _Error(_Loose):
    code: str | None = None
    message: str | None = None


class _ResultLine(_Loose):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


def chunks_of(
    prompts: pl.DataFrame, asked: BatchHeader, max_lines: int, max_bytes: int
) -> Iterator[list[bytes]]:
    """Yields the lines of each file, within the limits of prompts and bytes."""
    lines: list[bytes] = []
    size = 0
    for key, prompt in prompts.select(col.KEY, PROMPT).iter_rows():
        line = _request_line(key, prompt, asked)
        if lines and (len(lines) == max_lines or size + len(line) > max_bytes):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines


def keys_in(requests: Path) -> list[str]:
    """Returns the keys of a request file."""
    with requests.open("rb") as file:
        return [json.loads(line)["custom_id"] for line in file]


def results_in(
    path: Path, role: Role, expected: VectorWidth
) -> Iterator[Answer | Failure | RetryLater]:
    """Yields the result of each prompt in an output or error file.

    Lines without a key, or longer than a response may be, are skipped, so their prompts remain
    unanswered.
    """
    skipped, reason = 0, ""
    with path.open("rb") as file:
        while line := file.readline(MOST_CHAT_BYTES):
            try:
                result = _ResultLine.model_validate_json(line)
            except ValidationError as error:
                if line.strip():
                    skipped, reason = skipped + 1, reason or error.errors()[0]["msg"]
                continue
            yield _result_of(result, role, expected)
    if skipped:
        logger.warning("%s: %d lines are no results (the first: %s)", path, skipped, reason)


def _request_line(key: str, prompt: str, asked: BatchHeader) -> bytes:
    content: dict[str, JsonValue]
    if asked.role is Role.CHAT:
        content = json.loads(prompt)
    else:
        content = {"input": prompt, "encoding_format": "base64"}
    body = {"model": asked.model, **content, **as_sent(asked.parameters)}
    line = {
        "custom_id": key,
        "method": "POST",
        "url": ROUTES[asked.role],
        "body": body,
    }
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _result_of(
    result: _ResultLine, role: Role, expected: VectorWidth
) -> Answer | Failure | RetryLater:
    key, response = result.custom_id, result.response
    if response is None or response.status_code != 200:
        return _fault(key, response, result.error)
    if error := error_in(response.body):
        return RetryLater(key, one_line(error.words, REASON_CHARACTERS))
    try:
        if role is Role.CHAT:
            return checked_text(key, response.body)
        (found,) = checked_vectors([key], response.body, expected)
    except BadAnswerError as error:
        again = RetryLater if error.may_pass else Failure
        return again(key, one_line(str(error), REASON_CHARACTERS))
    return found if isinstance(found, Answer) else RetryLater(*found)


def _fault(key: str, response: _Response | None, error: _Error | None) -> Failure | RetryLater:
    said = _words(response, error)
    status = response.status_code if response else None
    passing = status in _PASSING_STATUS or (error is not None and error.code in _PASSING_CODES)
    return RetryLater(key, said) if passing else Failure(key, said)


def _words(response: _Response | None, error: _Error | None) -> str:
    body = response.body if response and isinstance(response.body, dict) else {}
    inner = body.get("error")
    told = inner.get("message") if isinstance(inner, dict) else None
    code = f"HTTP {response.status_code}" if response and response.status_code != 200 else ""
    words = told or (error and (error.message or error.code)) or "no answer and no reason"
    return one_line(f"{code} {words}".strip(), REASON_CHARACTERS)
