"""Stable hashes of values, equal on all machines and at all times.

A value without a stable identity raises an error instead of being converted to text: a ``repr`` may
contain a memory address.
"""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, JsonValue

FINGERPRINT_LENGTH = 16
"""Hex digits of a fingerprint: 64 bits suffice for one store."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class NoStableIdentityError(TypeError):
    """A value without a stable identity is part of an artifact's identity."""


def canonical(value: object) -> JsonValue:
    """Returns ``value`` as JSON data; raises `NoStableIdentityError` for anything else."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return _canonical_text(value)
        case float():
            return _canonical_float(value)
        case BaseModel():
            return canonical(value.model_dump(mode="json"))
        case dict():
            return {_text_key(key): canonical(inner) for key, inner in value.items()}
        case list() | tuple():
            return [canonical(inner) for inner in value]
        case _:
            raise NoStableIdentityError(
                f"{value!r} of type {type(value).__name__} cannot identify an artifact: "
                "use numbers, text, lists, dictionaries or pydantic models"
            )


def canonical_json(value: object) -> str:
    """Returns the canonical JSON text of a value, the input of hashes."""
    return _ENCODER.encode(canonical(value))


def sha256_of(value: object) -> str:
    """Returns the hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def fingerprint_of(value: object) -> str:
    """Returns the fingerprint, the name of an artifact's folder."""
    return sha256_of(value)[:FINGERPRINT_LENGTH]


def sha256_of_file(path: Path) -> str:
    """Returns the hex SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical_float(value: float) -> float:
    if value != value or value in (float("inf"), float("-inf")):
        raise NoStableIdentityError(
            f"{value} cannot identify an artifact: it is not a finite number"
        )
    return value


def _text_key(key: object) -> str:
    if not isinstance(key, str):
        raise NoStableIdentityError(f"key {key!r} cannot identify an artifact: keys must be text")
    return _canonical_text(key)


def _canonical_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NoStableIdentityError(f"{text!r} cannot identify an artifact: {error}") from error
    return text
