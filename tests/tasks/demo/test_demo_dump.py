"""The demo dump is reproducible, looks like a real one, and holds something to learn."""

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import polars as pl
import pytest

from tasks.demo.demo_dump import DemoDump, write_demo_dump
from tasks.demo.demo_items import BOOKS, GEAR, ImpossibleCatalogueSizeError, stock_shops


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> DemoDump:
    return write_demo_dump(tmp_path_factory.mktemp("dump"))


@pytest.fixture(scope="module")
def events(dump: DemoDump) -> pl.DataFrame:
    return pl.read_parquet(dump.interactions)


@pytest.fixture(scope="module")
def items(dump: DemoDump) -> pl.DataFrame:
    return pl.read_parquet(dump.items)


def histories(events: pl.DataFrame, known: set[str]) -> list[list[tuple[str, str]]]:
    """Each user's (item, domain) in order, without duplicates and vanished items."""
    ordered = events.unique().sort("user_id", "timestamp")
    kept = ordered.filter(pl.col("item_id").is_in(known))
    users = kept.group_by("user_id", maintain_order=True).agg("item_id", "domain")
    return [list(zip(row[1], row[2], strict=True)) for row in users.iter_rows()]


def test_the_same_seed_gives_the_same_bytes(dump: DemoDump, tmp_path: Path) -> None:
    again = write_demo_dump(tmp_path)
    assert again.interactions.read_bytes() == dump.interactions.read_bytes()
    assert again.items.read_bytes() == dump.items.read_bytes()


def test_another_seed_gives_other_users_and_a_partly_new_catalogue(
    events: pl.DataFrame, items: pl.DataFrame, tmp_path: Path
) -> None:
    other = write_demo_dump(tmp_path, seed=8)
    other_events, other_items = pl.read_parquet(other.interactions), pl.read_parquet(other.items)
    assert not set(events["user_id"]) & set(other_events["user_id"])
    shared = items.join(other_items, on="item_id", suffix="_other")
    assert 0.2 < shared.height / items.height < 0.8
    described = shared.drop_nulls(["description", "description_other"])
    assert (described["description"] == described["description_other"]).all()


def test_the_columns_and_types_are_those_of_a_dump(
    events: pl.DataFrame, items: pl.DataFrame
) -> None:
    assert events.schema == pl.Schema(
        {
            "user_id": pl.String,
            "item_id": pl.String,
            "domain": pl.String,
            "timestamp": pl.Int64,
        }
    )
    assert items.schema["categories"] == pl.List(pl.String)
    assert items.schema["price"] == pl.Float64
    assert items.columns == [
        "item_id", "domain", "title", "brand", "categories", "price", "description",
    ]  # fmt: skip


def test_the_counts_are_those_of_the_files(
    dump: DemoDump, events: pl.DataFrame, items: pl.DataFrame
) -> None:
    assert dump.event_count == events.height
    assert dump.item_count == items.height == 600
    assert dump.user_count == events["user_id"].n_unique() == 400
    assert set(items["domain"]) == set(events["domain"]) == {GEAR, BOOKS}


def test_no_two_items_share_an_id_or_a_title(items: pl.DataFrame) -> None:
    assert items["item_id"].is_unique().all()
    assert items["title"].is_unique().all()


def test_half_of_the_users_shop_in_both_domains(events: pl.DataFrame) -> None:
    domains = events.group_by("user_id").agg(pl.col("domain").n_unique())["domain"]
    assert 0.4 < (domains == 2).sum() / domains.len() < 0.6


def test_histories_have_at_least_five_events_and_about_twelve_on_average(
    events: pl.DataFrame, items: pl.DataFrame
) -> None:
    lengths = [len(history) for history in histories(events, set(items["item_id"]))]
    assert min(lengths) >= 5
    assert 10 < sum(lengths) / len(lengths) < 14


def test_no_user_has_two_different_events_at_one_time(events: pl.DataFrame) -> None:
    assert not events.unique().select("user_id", "timestamp").is_duplicated().any()


def test_the_blemishes_of_a_real_dump_are_there(events: pl.DataFrame, items: pl.DataFrame) -> None:
    assert items["title"].null_count() == 0
    assert 0 < items["brand"].null_count() < 20
    assert 10 < items["price"].null_count() < 80
    assert 20 < items["description"].null_count() < 100
    assert 5 < items["title"].str.contains("&amp;|&#39;").sum() < 80
    assert 5 < events.is_duplicated().sum() < 100
    without_row = events.filter(~pl.col("item_id").is_in(set(items["item_id"])))
    assert 3 < without_row.height < 50


def test_a_few_items_are_never_bought(events: pl.DataFrame, items: pl.DataFrame) -> None:
    cold = ~items["item_id"].is_in(set(events["item_id"]))
    assert 0.02 < cold.sum() / items.height < 0.06


def test_the_rows_stand_in_no_order(events: pl.DataFrame) -> None:
    assert not events["timestamp"].is_sorted()
    assert not events["user_id"].is_sorted()


def test_the_last_event_tells_much_more_about_the_next_than_popularity_does(
    events: pl.DataFrame, items: pl.DataFrame
) -> None:
    catalogue = dict(items.select("item_id", "domain").iter_rows())
    users = histories(events, set(catalogue))
    popularity: Counter[str] = Counter()
    followers: dict[str, Counter[str]] = defaultdict(Counter)
    for history in users:
        train = [item for item, _ in history[:-2]]
        popularity.update(train)
        for before, after in itertools.pairwise(train):
            followers[before][after] += 1000  # popularity only breaks ties
    popular_hits = chain_hits = 0
    for history in users:
        (target, domain), seen = history[-1], {item for item, _ in history[:-1]}
        pool = [i for i, d in catalogue.items() if d == domain and (i not in seen or i == target)]
        chain = followers[history[-2][0]]
        popular_hits += _is_in_top_ten(target, {i: popularity[i] for i in pool})
        chain_hits += _is_in_top_ten(target, {i: chain[i] + popularity[i] for i in pool})
    assert 0.04 < popular_hits / len(users) < 0.15
    assert chain_hits / len(users) > 0.25


def _is_in_top_ten(target: str, scores: dict[str, int]) -> bool:
    better = sum(score > scores[target] for score in scores.values())
    level = sum(score == scores[target] for score in scores.values()) - 1
    return better + level / 2 < 10


def test_interests_show_in_both_shops_of_a_customer(
    events: pl.DataFrame, items: pl.DataFrame
) -> None:
    titles = dict(items.select("item_id", "domain").iter_rows())
    interest = {item.item_id: item.interest for item in stock_shops(7, 600)}
    assert interest.keys() == titles.keys()
    both = [
        {name: {interest[i] for i, d in history if d == name} for name in (GEAR, BOOKS)}
        for history in histories(events, set(titles))
        if len({domain for _, domain in history}) == 2
    ]
    sharing = sum(bool(shops[GEAR] & shops[BOOKS]) for shops in both)
    assert sharing / len(both) > 0.8


def test_follow_ups_lead_to_the_next_volume_of_a_series() -> None:
    stock = {item.item_id: item for item in stock_shops(7, 600)}
    first = next(item for item in stock.values() if item.title.startswith("Starter ("))
    assert stock[first.follow_ups[0]].title == "Dough (The Patient Baker, Book 2)"
    assert first.companion is not None
    assert stock[first.companion].title.endswith("Planetary Stand Mixer")


def test_a_small_dump_works_down_to_one_item_a_topic_and_shop(tmp_path: Path) -> None:
    small = write_demo_dump(tmp_path, users=20, items=48)
    assert pl.read_parquet(small.items)["domain"].value_counts()["count"].to_list() == [24, 24]


@pytest.mark.parametrize("size", [47, 100_000])
def test_an_impossible_size_is_refused_before_anything_is_written(
    size: int, tmp_path: Path
) -> None:
    with pytest.raises(ImpossibleCatalogueSizeError, match="ask for"):
        write_demo_dump(tmp_path / "dump", items=size)
    assert not (tmp_path / "dump").exists()


def test_people_of_one_shop_end_in_the_other_with_the_interests_they_came_with(
    events: pl.DataFrame, items: pl.DataFrame
) -> None:
    interest = {item.item_id: item.interest for item in stock_shops(7, 600)}
    users = histories(events, set(items["item_id"]))
    newcomers = [
        history for history in users if history[-1][1] not in {domain for _, domain in history[:-1]}
    ]
    assert 40 < len(newcomers) < 100
    same = sum(interest[h[-1][0]] in {interest[item] for item, _ in h[:-1]} for h in newcomers)
    assert same / len(newcomers) > 0.7
