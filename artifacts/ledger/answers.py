"""Answers in the ledger, and their keys."""

import hashlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl
import pybase64
from pydantic import BaseModel, BeforeValidator, JsonValue
from pydantic_core import to_json

from artifacts import columns as col
from artifacts.fingerprint import canonical_json, sha256_of


class Role(StrEnum):
    """Role of an endpoint; each role has its own ledger."""

    CHAT = "chat"
    EMBEDDING = "embedding"


class Question(NamedTuple):
    """Common part of the prompts of a table; included in their keys and stored with them."""

    model: str
    parameters: dict[str, JsonValue]


@dataclass(frozen=True)
class Answer:
    """A completion (``text``) or an embedding (``vector``, float32 (width,)).

    ``finish_reason`` is the server's, "length" for a truncated text. Token counts are the server's;
    those of an embedding batch are divided among its texts.
    """

    key: str
    text: str | None
    vector: np.ndarray | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def _bytes_of(encoded: object) -> bytes | None:
    if encoded is None:
        return None
    if not isinstance(encoded, str):
        raise ValueError("a vector is text")
    return pybase64.b64decode(encoded, validate=True)


class _Line(BaseModel, extra="forbid"):
    key: str
    text: str | None = None
    vector: Annotated[bytes | None, BeforeValidator(_bytes_of)] = None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    model: str | None = None
    at: int | None = None


KEY_SCHEMA = pl.Schema({col.KEY: pl.String})
VECTOR = "vector"

ANSWER_SCHEMA = pl.Schema(
    {
        col.KEY: pl.String,
        "text": pl.String,
        VECTOR: pl.Binary,
        "finish_reason": pl.String,
        "prompt_tokens": pl.Int64,
        "completion_tokens": pl.Int64,
    }
)

MODEL = "model"
ANSWERED_AT = "answered_at"

PART_SCHEMA = pl.Schema({**ANSWER_SCHEMA, MODEL: pl.String, ANSWERED_AT: pl.Datetime("ms", "UTC")})
"""Columns of an answer, with its model and time (null if unknown)."""

_FIELDS = {ANSWERED_AT: "at"}
"""Names of columns in a journal's lines, where they differ."""


def answer_key(model: str, parameters: dict[str, JsonValue], prompt: JsonValue) -> str:
    """Returns the ledger's key of a prompt; equal prompts to the same model have one key (DESIGN
    2).

    It does not include user, item or run, so equal prompts share an answer.
    """
    return sha256_of([model, parameters, prompt])


def answer_keys(
    model: str, parameters: dict[str, JsonValue], prompts: Iterable[JsonValue]
) -> list[str]:
    """Returns the `answer_key` of each prompt; common parts are canonicalised once."""
    shared = f"[{canonical_json(model)},{canonical_json(parameters)},"
    return [
        hashlib.sha256(f"{shared}{canonical_json(prompt)}]".encode()).hexdigest()
        for prompt in prompts
    ]


def journal_line(answer: Answer, model: str | None = None, at: int | None = None) -> bytes:
    """Returns a line of a journal with its newline; a truncated line has none.

    ``at``: milliseconds since 1970 UTC.
    """
    # Without a `_Line` object, which would dominate the time.
    line = {
        "key": answer.key,
        "text": None if answer.text is None else _storable(answer.text),
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "model": model,
        "at": at,
    }
    written = to_json(line)
    if answer.vector is None:
        return written + b"\n"
    # Bypasses the JSON writer, which would scan the vector's text for characters to escape.
    vector = pybase64.b64encode(_vector_bytes(answer.vector))
    return b'%s,"vector":"%s"}\n' % (written[:-1], vector)


def parse_journal(content: bytes) -> pl.DataFrame:
    """Returns the complete lines of a journal, columns `PART_SCHEMA`, without a truncated last
    line.

    Raises:
        pydantic.ValidationError: a complete line is not an answer; the file is damaged.
    """
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    lines = [_Line.model_validate_json(line) for line in whole]
    return _part(
        {name: [getattr(line, _FIELDS.get(name, name)) for line in lines] for name in PART_SCHEMA}
    )


def part_of(answers: list[tuple[Answer, int]], model: str | None) -> pl.DataFrame:
    """Returns one model's answers with their times, as `parse_journal` would.

    Times are milliseconds since 1970 UTC.
    """
    said = [answer for answer, _ in answers]
    return _part(
        {
            col.KEY: [answer.key for answer in said],
            "text": [answer.text and _storable(answer.text) for answer in said],
            VECTOR: [
                None if answer.vector is None else _vector_bytes(answer.vector) for answer in said
            ],
            "finish_reason": [answer.finish_reason for answer in said],
            "prompt_tokens": [answer.prompt_tokens for answer in said],
            "completion_tokens": [answer.completion_tokens for answer in said],
            MODEL: [model] * len(said),
            ANSWERED_AT: [at for _, at in answers],
        }
    )


def vectors_of(answers: pl.DataFrame) -> np.ndarray:
    """Returns the ``vector`` column as float32 (rows, width)."""
    return np.frombuffer(b"".join(answers[VECTOR].to_list()), dtype="<f4").reshape(
        answers.height, -1
    )


def _part(columns: dict[str, list]) -> pl.DataFrame:
    milliseconds = pl.Schema({**PART_SCHEMA, ANSWERED_AT: pl.Int64})
    return pl.DataFrame(columns, schema=milliseconds).cast(PART_SCHEMA)


def _storable(text: str) -> str:
    """Replaces unpaired surrogates, which JSON allows and UTF-8 does not, by the replacement
    character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _vector_bytes(vector: np.ndarray) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def scan_parts(paths: list[Path]) -> pl.LazyFrame:
    """Returns parts as one lazy frame; columns missing in old parts are null."""
    if not paths:
        return pl.LazyFrame(schema=PART_SCHEMA)
    return pl.scan_parquet(paths, glob=False, schema=PART_SCHEMA, missing_columns="insert")


def time_ordered_name() -> str:
    """Returns a unique name that sorts after all earlier ones."""
    return f"{time.time_ns():016x}-{uuid.uuid4().hex[:12]}"
