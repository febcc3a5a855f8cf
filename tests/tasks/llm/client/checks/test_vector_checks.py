"""Vectors that are not what was asked for, told by their form alone."""

import base64
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from artifacts.ledger.answers import Answer
from tasks.llm.client.checks.answer_checks import BadAnswerError
from tasks.llm.client.checks.vector_checks import BadVector, VectorWidth, checked_vectors

KEYS = ["a", "b", "c"]
ROWS = ((1.0, -2.5, 3.0), (0.25, 0.0, 4.0), (7.0, 8.0, 9.0))


def numbers(*values: float) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def encoded(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def reply(*vectors: object, indices: list[JsonValue] | None = None) -> JsonValue:
    found = indices if indices is not None else list(range(len(vectors)))
    data: list[Any] = [
        {"index": index, "embedding": encoded(v) if isinstance(v, bytes) else v}
        for index, v in zip(found, vectors, strict=True)
    ]
    return {"data": data, "usage": {"prompt_tokens": 7}}


def without_index(body: JsonValue) -> JsonValue:
    assert isinstance(body, dict)
    assert isinstance(body["data"], list)
    return {**body, "data": [{"embedding": entry["embedding"]} for entry in body["data"]]}  # type: ignore[call-overload, index]


def rows_of(found: list[Answer | BadVector]) -> list[list[float]]:
    rows = []
    for outcome in found:
        assert isinstance(outcome, Answer), outcome
        assert outcome.vector is not None
        rows.append(outcome.vector.tolist())
    return rows


def test_base64_and_lists_give_the_same_vectors() -> None:
    told = checked_vectors(KEYS, reply(*(numbers(*row) for row in ROWS)), VectorWidth(None))
    listed = checked_vectors(KEYS, reply(*(list(row) for row in ROWS)), VectorWidth(None))
    assert rows_of(told) == rows_of(listed) == [list(row) for row in ROWS]


@pytest.mark.parametrize("indices", [[None] * 3, [0] * 3, [0.0] * 3], ids=str)
def test_vectors_without_an_index_or_all_with_index_0_are_in_order(
    indices: list[JsonValue],
) -> None:
    body = reply(*(list(row) for row in ROWS), indices=indices)
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(3))) == [list(row) for row in ROWS]


def test_vectors_whose_index_is_left_out_are_in_order() -> None:
    body = without_index(reply(*(list(row) for row in ROWS)))
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(3))) == [list(row) for row in ROWS]


@given(st.permutations(range(3)), st.sampled_from([int, float, str]))
def test_an_index_decides_in_whichever_form_of_a_number(order: list[int], form: type) -> None:
    rows = [list(ROWS[number]) for number in order]
    body = reply(*rows, indices=[form(number) for number in order])
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(None))) == [list(row) for row in ROWS]


@given(st.permutations(range(1, 4)))
def test_an_index_may_count_from_1(order: list[int]) -> None:
    rows = [list(ROWS[number - 1]) for number in order]
    indices: list[JsonValue] = [*order]
    body = reply(*rows, indices=indices)
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(None))) == [list(row) for row in ROWS]


@pytest.mark.parametrize(
    "shape",
    [
        lambda rows: rows,
        lambda rows: {"embeddings": rows},
        lambda rows: {"data": rows},
        lambda rows: {"embeddings": {"float": rows}},
        lambda rows: {"embeddings": [{"values": row} for row in rows]},
        lambda rows: {"predictions": [{"embeddings": {"values": row}} for row in rows]},
        lambda rows: {"result": {"shape": [3, 3], "data": rows}, "success": True},
        lambda rows: {"output": {"embeddings": [{"embedding": row} for row in rows]}},
        lambda rows: [{"index": n, "embedding": row} for n, row in enumerate(rows)],
    ],
)
def test_vectors_are_found_in_the_usual_shapes(shape: Callable[[Any], JsonValue]) -> None:
    body = shape([list(row) for row in ROWS])
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(3))) == [list(row) for row in ROWS]


@pytest.mark.parametrize("body", [{"embedding": [1.0, 2.0]}, {"embedding": {"values": [1, 2]}}])
def test_one_vector_may_come_without_a_list(body: JsonValue) -> None:
    assert rows_of(checked_vectors(["a"], body, VectorWidth(2))) == [[1.0, 2.0]]


@pytest.mark.parametrize("is_rounded", [True, False])
@pytest.mark.parametrize("expected", [None, 48])
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 0.05, 1.0, 40.0]))
def test_base64_of_float64_is_told_from_that_of_float32(
    is_rounded: bool, expected: int | None, seed: int, scale: float
) -> None:
    rows = np.random.default_rng(seed).normal(0, scale, (3, 48))
    single = rows.astype("<f4")
    double = single.astype("<f8") if is_rounded else rows
    for sent in (single, double):
        body = reply(*(row.tobytes() for row in sent))
        found = rows_of(checked_vectors(KEYS, body, VectorWidth(expected)))
        np.testing.assert_array_equal(np.asarray(found, "<f4"), single)


def test_a_vector_of_twice_the_width_is_not_taken_for_float64() -> None:
    rows = np.random.default_rng(5).normal(0, 0.05, (3, 96)).astype("<f4")
    with pytest.raises(BadAnswerError, match="96 numbers were returned, earlier ones have 48"):
        checked_vectors(KEYS, reply(*(row.tobytes() for row in rows)), VectorWidth(48))


@pytest.mark.parametrize(
    "indices",
    [
        [0, 0, 1],
        [0, 1, 1],
        [2, 3, 4],
        [0, 1, 3],
        [0, 1, None],
        [-1, 0, 1],
        [0, 2, 4],
        [0, 1, "x"],
        [0, 1, 1.5],
        [0, 1, 10**400],
        [0, 1, float("inf")],
    ],
    ids=str,
)
def test_duplicates_and_gaps_are_refused_and_no_order_is_guessed(indices: list[JsonValue]) -> None:
    with pytest.raises(BadAnswerError, match="indices"):
        checked_vectors(KEYS, reply(*(list(row) for row in ROWS), indices=indices), VectorWidth(3))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_another_number_of_vectors_than_of_texts_is_refused(count: int) -> None:
    body = reply(*itertools.islice(itertools.cycle([[1.0, 2.0]]), count))
    with pytest.raises(BadAnswerError, match=f"{count} vectors were returned for 3") as raised:
        checked_vectors(KEYS, body, VectorWidth(2))
    assert raised.value.vectors == count


BAD = {
    "zero": numbers(0.0, 0.0),
    "not a number": numbers(1.0, float("nan")),
    "infinite": numbers(float("inf"), 1.0),
    "too large": [1e300, 1.0],
    "larger than any float": [10**400, 1.0],
    "null for not a number": [None, 1.0],
    "of another width": numbers(1.0, 2.0, 3.0),
    "no numbers": b"",
    "cut within a number": numbers(1.0, 2.0)[:-1],
    "no base64": "%%%",
    "null": None,
    "one per token": [[1.0, 2.0], [3.0, 4.0]],
    "an object": {"a": 1},
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", range(3))
def test_one_bad_vector_is_its_texts_fault_and_spoils_no_other(bad: str, place: int) -> None:
    vectors: list[object] = [numbers(1.0, 2.0)] * 3
    vectors[place] = BAD[bad]
    found = checked_vectors(KEYS, reply(*vectors), VectorWidth(2))
    assert [isinstance(outcome, BadVector) for outcome in found] == [
        index == place for index in range(3)
    ]
    assert found[place].key == KEYS[place]


@pytest.mark.parametrize("bad", BAD)
def test_an_answer_without_any_usable_vector_is_refused_as_a_whole(bad: str) -> None:
    with pytest.raises(BadAnswerError) as raised:
        checked_vectors(KEYS, reply(*[BAD[bad]] * 3), VectorWidth(2))
    assert raised.value.of_all


@pytest.mark.parametrize("indices", [[None, 1, 2], [2, None, 1]], ids=str)
def test_a_single_index_that_is_left_out_is_0(indices: list[JsonValue]) -> None:
    body = reply(*(list(ROWS[index or 0]) for index in indices), indices=indices)  # type: ignore[index]
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(3))) == [list(row) for row in ROWS]


def test_a_vector_in_a_list_of_its_own_is_read() -> None:
    body = reply(*([list(row)] for row in ROWS))
    assert rows_of(checked_vectors(KEYS, body, VectorWidth(3))) == [list(row) for row in ROWS]


def test_vectors_of_every_token_are_refused_once_and_named() -> None:
    with pytest.raises(BadAnswerError, match=r"one per token.*pooling") as raised:
        checked_vectors(["a"], reply([[1.0, 2.0], [3.0, 4.0]]), VectorWidth(None))
    assert not raised.value.may_pass


@pytest.mark.parametrize("form", ["<f2", ">f4", "int8"])
@pytest.mark.parametrize("texts", [1, 3])
def test_base64_of_other_numbers_is_refused_once_and_no_vector_is_guessed(
    form: str, texts: int
) -> None:
    values = np.random.default_rng(1).normal(size=(texts, 1024)) / 32
    scaled = (values * 400).astype(form) if form == "int8" else values.astype(form)
    body = reply(*(row.tobytes() for row in scaled))
    with pytest.raises(BadAnswerError, match=r"float32.*EMBED_PARAMETERS") as raised:
        checked_vectors(KEYS[:texts], body, VectorWidth(None))
    assert not raised.value.may_pass


def test_vectors_that_are_cut_within_a_number_are_refused_also_where_their_bytes_add_up() -> None:
    cut = numbers(1.0, 2.0, 3.0)[:-1]
    with pytest.raises(BadAnswerError, match="within a number"):
        checked_vectors(["a", "b", "c", "d"], reply(cut, cut, cut, cut), VectorWidth(None))


def test_vectors_of_different_widths_are_refused_where_none_is_known_to_be_right() -> None:
    with pytest.raises(BadAnswerError, match="different lengths"):
        checked_vectors(["a", "b"], reply([1.0, 2.0], [1.0]), VectorWidth(None))


def test_the_first_width_binds_the_later_ones() -> None:
    width = VectorWidth(None)
    checked_vectors(["a"], reply(numbers(1.0, 2.0)), width)
    with pytest.raises(BadAnswerError, match="3 numbers were returned, earlier ones have 2"):
        checked_vectors(["b"], reply(numbers(1.0, 2.0, 3.0)), width)


def test_a_width_that_was_asked_for_binds_the_first_ones() -> None:
    with pytest.raises(BadAnswerError, match="`dimensions` is 2"):
        checked_vectors(["b"], reply([1.0, 2.0, 3.0]), VectorWidth(2, is_asked_for=True))


def test_each_text_has_its_share_of_the_tokens() -> None:
    found = checked_vectors(KEYS, reply(*(list(row) for row in ROWS)), VectorWidth(None))
    assert sum(outcome.prompt_tokens for outcome in found if isinstance(outcome, Answer)) == 7


def test_vectors_of_a_second_model_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    expected = VectorWidth(None)
    for model in ("small", None, "small", "large", "small", "large"):
        body = reply(*(list(row) for row in ROWS))
        assert isinstance(body, dict)
        checked_vectors(KEYS, {**body, "model": model}, expected)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "vectors come from two models, small and large"
    ]
