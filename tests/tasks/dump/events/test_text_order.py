"""Ids are sorted by numbers made of their bytes: the order must be that of the texts."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tasks.dump.events.event_numbers import text_order

ids = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20)


@given(st.lists(ids, unique=True), ids)
def test_the_order_is_that_of_the_texts(texts: list[str], prefix: str) -> None:
    series = pl.Series([prefix + text for text in texts], dtype=pl.String)
    assert series.gather(text_order(series)).to_list() == series.sort().to_list()


def test_ids_alike_in_their_first_bytes_are_told_apart_by_the_rest() -> None:
    series = pl.Series([f"{number % 3}-the-same-middle-{number:05}" for number in range(2_000)])
    assert series.gather(text_order(series)).to_list() == series.sort().to_list()


def test_a_text_comes_before_those_that_it_begins() -> None:
    series = pl.Series(["ab\x01", "abc", "ab", "a", ""])
    assert series.gather(text_order(series)).to_list() == ["", "a", "ab", "ab\x01", "abc"]
