"""Validation of embedding vectors, each separately."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pybase64
from pydantic import JsonValue

from artifacts.ledger.answers import Answer
from tasks.llm.client.checks.answer_checks import BadAnswerError, Usage, usage_of
from tasks.llm.client.checks.answer_shapes import SentVector, entries_in

FLOAT_BYTES = 4
LEAST_DOUBLES = 32
TINY, HUGE = 1e-12, 1e8
"""Plausible range of non-zero coordinates."""

SMALLEST, LARGEST = 1e-9, 1e6
"""Plausible range of the central 80 % of the non-zero coordinates."""

MOST_PLAUSIBLE = 0.75
"""Share of implausible numbers that indicates float64 read as float32."""

logger = logging.getLogger("llm4cdsr")

_NO_VECTOR = "a vector is neither base64 nor a list of numbers"
_NO_FLOATS = (
    "the base64 of a vector does not hold float32 numbers; LLM4CDSR_EMBED_PARAMETERS="
    '\'{"encoding_format": "float"}\' asks for a list of numbers'
)
_BY_TOKEN = "a list of vectors, one per token, came back for a text; start the server with pooling"


class BadVector(NamedTuple):
    """One text of a batch without a valid vector."""

    key: str
    reason: str


@dataclass
class VectorWidth:
    """Width of all vectors of a model; detects replicas with another model.

    ``is_asked_for``: set by the request (``dimensions``).
    """

    value: int | None
    is_asked_for: bool = False
    model: str | None = None
    """The model name in the first answer."""
    is_told: bool = False

    def see(self, model: JsonValue) -> None:
        """Warns once if answers name two models, as a proxy with a fallback sends them."""
        if not isinstance(model, str) or not model:
            return
        self.model = self.model or model
        if model != self.model and not self.is_told:
            self.is_told = True
            logger.warning(
                "vectors come from two models, %s and %s: those of different models cannot be "
                "compared; set one model without a fallback",
                self.model,
                model,
            )

    def wrong(self, width: int) -> str:
        """Returns the message about vectors of another width."""
        if self.is_asked_for:
            return f"vectors of {width} numbers were returned; `dimensions` is {self.value}"
        return (
            f"vectors of {width} numbers were returned, earlier ones have {self.value}; "
            "has the model behind this name changed?"
        )


def checked_vectors(
    keys: list[str], body: JsonValue, expected: VectorWidth
) -> list[Answer | BadVector]:
    """Returns the outcome of each key, in the order of the keys.

    ``body`` is the JSON data of the response. The first valid vectors set the width if none is
    expected.

    Raises:
        BadAnswerError: wrong number of vectors, no valid one, or different widths without an
            expected one.
    """
    expected.see(body.get("model") if isinstance(body, dict) else None)
    found = entries_in(body)
    if found is None:
        raise BadAnswerError("the answer has no vectors", is_empty=True)
    entries = _in_order(found, len(keys))
    vectors = _vectors(entries)
    if isinstance(vectors, np.ndarray) and expected.value in (None, vectors.shape[1]):
        expected.value = vectors.shape[1]
        return [*_answers(keys, vectors, usage_of(body))]
    return _one_by_one(keys, entries, expected, usage_of(body))


def _in_order(entries: Sequence[SentVector], texts: int) -> list[JsonValue]:
    """Returns the vectors by index, which may start at 1; in the order of the response without
    indices or if all are 0. A single missing index is 0, which serialisers of protobuf omit."""
    if len(entries) != texts:
        raise BadAnswerError(
            f"{len(entries)} vectors were returned for {texts} texts",
            vectors=len(entries),
            is_empty=not entries,
        )
    indices = [entry.place for entry in entries]
    if all(index is None for index in indices) or all(index == 0 for index in indices):
        return [entry.embedding for entry in entries]
    if indices == list(range(texts)):
        return [entry.embedding for entry in entries]
    numbers = [0 if index is None else _index(index) for index in indices]
    found = set(numbers)
    first = next((first for first in (0, 1) if found == set(range(first, first + texts))), None)
    if first is None:
        raise BadAnswerError(f"the vectors' indices are not 0 to {texts - 1}, each once")
    ordered: list[JsonValue] = [None] * texts
    for number, entry in zip(numbers, entries, strict=True):
        assert number is not None
        ordered[number - first] = entry.embedding
    return ordered


def _index(index: JsonValue) -> int | None:
    if isinstance(index, str) and index.isdecimal():
        return int(index)
    if isinstance(index, bool) or not isinstance(index, int | float):
        return None
    if isinstance(index, float):
        return int(index) if index.is_integer() else None
    return index


def _vectors(entries: list[JsonValue]) -> np.ndarray | None:
    """Returns all vectors (texts, width) if all are valid and of equal width."""
    try:
        encoded = [_vector_bytes(entry) for entry in entries]
    except BadAnswerError:
        return None
    width = len(encoded[0]) // FLOAT_BYTES
    if not width or any(len(one) != width * FLOAT_BYTES for one in encoded):
        return None
    joined = b"".join(encoded)
    is_base64 = all(isinstance(entry, str) for entry in entries)
    vectors = _numbers(joined) if is_base64 else np.frombuffer(joined, "<f4")
    vectors = vectors.reshape(len(encoded), -1)
    is_usable = np.isfinite(vectors).all() and vectors.any(axis=1).all()
    return vectors if is_usable and (not is_base64 or _are_plausible(vectors)) else None


def _one_by_one(
    keys: list[str], entries: list[JsonValue], expected: VectorWidth, tokens: Usage
) -> list[Answer | BadVector]:
    usable: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    may_pass = False
    for key, entry in zip(keys, entries, strict=True):
        try:
            usable[key] = _vector(entry)
        except BadAnswerError as error:
            reasons[key] = str(error)
            may_pass |= error.may_pass
    widths = {len(vector) for vector in usable.values()}
    if expected.value is None and len(widths) > 1:
        raise BadAnswerError("vectors of different lengths were returned")
    for key, vector in usable.items():
        if expected.value is not None and len(vector) != expected.value:
            reasons[key] = expected.wrong(len(vector))
    if len(reasons) == len(keys):
        raise BadAnswerError(
            next(iter(reasons.values())),
            may_pass=may_pass or bool(usable),
            of_all=len(set(reasons.values())) == 1,
        )
    expected.value = expected.value or widths.pop()
    answers = {
        answer.key: answer
        for answer in _answers(keys, [usable.get(key) for key in keys], tokens)
        if answer.key not in reasons
    }
    return [answers.get(key) or BadVector(key, reasons[key]) for key in keys]


def _answers(keys: list[str], vectors: Iterable[np.ndarray | None], tokens: Usage) -> list[Answer]:
    """Returns one answer per text, with its share of the tokens."""
    shares = np.diff(np.linspace(0, tokens.prompt_tokens, len(keys) + 1).astype(int)).tolist()
    return [
        Answer(key, None, vector, "stop", share, 0)
        for key, vector, share in zip(keys, vectors, shares, strict=True)
    ]


def _vector(entry: JsonValue) -> np.ndarray:
    encoded = _vector_bytes(entry)
    width, rest = divmod(len(encoded), FLOAT_BYTES)
    if rest:
        raise BadAnswerError(f"a vector ends within a number, {rest} bytes after number {width}")
    vector = _numbers(encoded) if isinstance(entry, str) else np.frombuffer(encoded, "<f4")
    if isinstance(entry, str) and not _are_plausible(vector):
        raise BadAnswerError(_NO_FLOATS, may_pass=False)
    if not (np.isfinite(vector).all() and vector.any()):
        raise BadAnswerError("a vector is zero or not finite")
    return vector


def _vector_bytes(encoded: JsonValue) -> bytes:
    """Returns the bytes of a vector sent as base64 or as a list."""
    try:
        if isinstance(encoded, str):
            return pybase64.b64decode(encoded, validate=True)
        if isinstance(encoded, list):
            with np.errstate(over="ignore"):  # Too large numbers become infinite.
                return _flat(np.asarray(encoded, np.float64)).astype("<f4").tobytes()
    except BadAnswerError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise BadAnswerError(_NO_VECTOR) from error
    raise BadAnswerError(_NO_VECTOR)


def _numbers(encoded: bytes) -> np.ndarray:
    """Returns the numbers in base64: float32, as sent by OpenAI, or float64. Read as float32,
    float64 bytes have arbitrary magnitudes in every other number."""
    single = np.frombuffer(encoded, "<f4")
    if single.size < LEAST_DOUBLES or single.size % 2 or np.abs(single).max() < HUGE:
        return single
    magnitude = np.abs(single[::2])
    is_plausible = (magnitude == 0) | ((magnitude > TINY) & (magnitude < HUGE))
    if is_plausible.mean() > MOST_PLAUSIBLE:
        return single
    double = np.frombuffer(encoded, "<f8")
    is_whole = np.isfinite(double).all() and np.abs(double).max() < HUGE
    return double.astype("<f4") if is_whole else single


def _are_plausible(vectors: np.ndarray) -> bool:
    """Returns whether float32 numbers in base64 have the magnitudes of a model's; float16, int8 and
    big-endian bytes read as float32 have arbitrary ones."""
    sizes = np.abs(vectors[np.isfinite(vectors) & (vectors != 0)])
    if sizes.size < LEAST_DOUBLES:
        return True
    low, high = np.quantile(sizes, [0.1, 0.9])
    return bool(low > SMALLEST and high < LARGEST)


def _flat(vector: np.ndarray) -> np.ndarray:
    if vector.ndim == 2 and len(vector) == 1:
        return vector[0]
    if vector.ndim == 2:
        raise BadAnswerError(_BY_TOKEN, may_pass=False)
    if vector.ndim != 1:
        raise ValueError("not one vector")
    return vector
