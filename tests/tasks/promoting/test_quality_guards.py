"""Counts of a table of recommendations by hand, and the limits that they may break."""

import polars as pl
import pytest

from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.store import Store
from tasks.promoting.quality_guards import GuardThresholds, guard_violations
from tests.tasks.shops.counted_lists import recommendation_counts
from tests.tasks.shops.small_shop import SmallShop

LENIENT = GuardThresholds(min_served_share=0, min_coverage=0, max_popular_share=1)


@pytest.fixture
def data(store: Store) -> Dataset:
    return read_dataset(store, SmallShop().ingested(store))


def recommended(*rows: tuple[str, str, str]) -> pl.DataFrame:
    names = ("user_id", "domain", "item_id")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def test_counts_are_those_of_a_reader_with_a_pencil(data: Dataset) -> None:
    # The popular tenth of nine items is one: b2, the first of three that were bought twice before
    # each user's last two events.
    table = recommended(
        ("ada", "books", "b2"),
        ("ada", "gear", "g3"),
        ("bob", "books", "b4"),
        ("bob", "books", "b4"),
        ("eve", "books", "b2"),
    )
    counts = recommendation_counts(data, table)
    assert counts["rows"] == 5
    assert (counts["users"], counts["users_without"]) == (3, 2)
    assert counts["served_share"] == 3 / 5
    assert (counts["items"], counts["coverage"]) == (3, round(3 / 9, 4))
    assert counts["popular_share"] == 2 / 5
    assert counts["duplicates"] == 1


def test_an_empty_table_serves_nobody(data: Dataset) -> None:
    counts = recommendation_counts(data, recommended().clear())
    assert counts["served_share"] == 0
    assert counts["users_without"] == 5


HEALTHY = {
    "served_share": 1.0,
    "rows": 10_000,
    "items": 50,
    "coverage": 0.5,
    "popular_share": 0.3,
    "duplicates": 0,
}


def test_healthy_counts_break_nothing() -> None:
    assert guard_violations(HEALTHY, GuardThresholds()) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("served_share", 0.5), ("popular_share", 0.99), ("duplicates", 1)],
)
def test_each_limit_is_named_when_it_breaks(name: str, value: float) -> None:
    (sentence,) = guard_violations({**HEALTHY, name: value}, GuardThresholds())
    assert sentence.startswith(f"{name} is {value:g}, at ")


def test_lists_of_few_items_break_their_limit() -> None:
    (sentence,) = guard_violations({**HEALTHY, "coverage": 0.001}, GuardThresholds())
    assert sentence == "reached_share is 0.005, at least 0.01 is required"


def test_a_few_users_are_not_asked_to_reach_a_large_catalogue() -> None:
    # 200 users with 20 places each, and a million items.
    few = {**HEALTHY, "rows": 4000, "items": 1500, "coverage": 0.0015}
    assert guard_violations(few, GuardThresholds()) == ()


def test_a_count_that_was_never_taken_breaks_its_limit() -> None:
    missing = {name: value for name, value in HEALTHY.items() if name != "coverage"}
    (sentence,) = guard_violations(missing, LENIENT)
    assert sentence.startswith("reached_share was not measured")
