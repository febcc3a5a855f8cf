"""Keys met so far: each is new once, in whatever piece it comes."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from artifacts import columns as col
from tasks.llm.keys_met import KeysMet


def key(number: int) -> str:
    # Digests of zeros at either end are keys like all others.
    return "00" * 32 if number == 0 else hashlib.sha256(str(number).encode()).hexdigest()


def piece(numbers: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {col.KEY: [key(n) for n in numbers], "row": range(len(numbers))},
        schema={col.KEY: pl.String, "row": pl.Int64},
    )


@given(st.lists(st.lists(st.integers(0, 12))))
def test_a_key_is_new_where_it_stands_first(pieces: list[list[int]]) -> None:
    keys, seen = KeysMet(), set()
    for numbers in pieces:
        fresh = keys.add(piece(numbers))
        expected = []
        for row, number in enumerate(numbers):
            if number not in seen:
                seen.add(number)
                expected.append((key(number), row))
        assert fresh.rows() == expected
    assert len(keys) == len(seen)
    assert keys.series().to_list() == sorted(map(key, seen))


def test_another_thread_may_go_on() -> None:
    keys = KeysMet()
    keys.add(piece([1, 2]))
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(keys.add, piece([2, 3])).result()["row"].to_list() == [1]
    assert len(keys) == 3
