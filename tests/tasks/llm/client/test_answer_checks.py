"""Answers that are not what was asked for, told by their form alone."""

import base64

import numpy as np
import pytest

from tasks.llm.client.answer_checks import BadAnswer, VectorWidth, checked_vectors


def reply(*vectors: bytes | list[float]) -> dict[str, object]:
    data = [
        {"index": index, "embedding": base64.b64encode(v).decode() if isinstance(v, bytes) else v}
        for index, v in enumerate(vectors)
    ]
    return {"data": data, "usage": {"prompt_tokens": 7}}


def numbers(*values: float) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def test_base64_and_lists_give_the_same_vectors() -> None:
    rows = ((1.0, -2.5, 3.0), (0.25, 0.0, 4.0))
    told = checked_vectors(["a", "b"], reply(*(numbers(*row) for row in rows)), VectorWidth(None))
    listed = checked_vectors(["a", "b"], reply(*(list(row) for row in rows)), VectorWidth(None))
    for one, other, row in zip(told, listed, rows, strict=True):
        for answer in (one, other):
            assert answer.vector is not None
            assert answer.vector.tolist() == list(row)


def test_vectors_that_are_cut_within_a_number_are_refused_also_where_their_bytes_add_up() -> None:
    cut = numbers(1.0, 2.0, 3.0)[:-1]
    with pytest.raises(BadAnswer, match="within a number"):
        checked_vectors(["a", "b", "c", "d"], reply(cut, cut, cut, cut), VectorWidth(None))


def test_vectors_without_numbers_are_refused() -> None:
    with pytest.raises(BadAnswer, match="zero or not finite"):
        checked_vectors(["a", "b"], reply(b"", b""), VectorWidth(None))


def test_one_bad_vector_among_good_ones_is_found() -> None:
    good = numbers(1.0, 2.0)
    for bad in (numbers(0.0, 0.0), numbers(1.0, float("nan")), numbers(float("inf"), 1.0)):
        with pytest.raises(BadAnswer, match="zero or not finite"):
            checked_vectors(["a", "b", "c"], reply(good, bad, good), VectorWidth(2))


def test_the_first_width_binds_the_later_ones() -> None:
    width = VectorWidth(None)
    checked_vectors(["a"], reply(numbers(1.0, 2.0)), width)
    with pytest.raises(BadAnswer, match="3 numbers came back where earlier ones have 2"):
        checked_vectors(["b"], reply(numbers(1.0, 2.0, 3.0)), width)
