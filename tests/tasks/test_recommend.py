"""Recommendations against a plain sort: every user, every domain, nothing met before."""

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import tasks.recommend
from artifacts.bundles import parts_of
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS, read_table
from artifacts.store import Store
from model.checkpoint import load_model
from model.data.sequences import IntArray, Prefixes
from model.scoring.model_scorer import ModelScorer
from model.scoring.top_k import recommend as best_items
from tasks.frame.model_inputs import sequences_of
from tasks.promoting.quality_guards import INDEX_RECALL
from tasks.recommend import RecommendationConfig, index_recalls, recommend, recommendations
from tests.tasks.serving.small_release import small_release
from tests.tasks.shops.counted_lists import recommendation_counts
from tests.tasks.shops.small_shop import TITLES, SmallShop


class Preference:
    """A made-up taste, different for every pair; the item ``cold`` is everyone's best."""

    def __init__(self, data: Dataset, cold: int = 0) -> None:
        self.starts, self.cold = data.domain_starts, cold

    def of(self, user: int, item: int) -> float:
        return 99.0 if item == self.cold else float((user * 31 + item * 17) % 23 + item / 100)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        items = range(self.starts[domain] + 1, self.starts[domain + 1] + 1)
        rows = [[self.of(user, item) for item in items] for user in prefixes.users.tolist()]
        return torch.tensor(rows)


@pytest.fixture
def data(store: Store) -> Dataset:
    return read_dataset(store, SmallShop().ingested(store))


def seen_by(data: Dataset, user: int) -> set[int]:
    return set(data.item_indices[data.offsets[user] : data.offsets[user + 1]].tolist())


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommendations_equal_a_plain_sort(data: Dataset, exclude_seen: bool) -> None:
    taste = Preference(data)
    config = RecommendationConfig(per_domain=2, exclude_seen=exclude_seen)
    found = recommendations(data, taste, config)
    expected = []
    for user, user_id in data.users.select("user_index", "user_id").sort("user_id").iter_rows():
        for number, domain in enumerate(data.domains):
            pool = range(data.domain_starts[number] + 1, data.domain_starts[number + 1] + 1)
            left = [i for i in pool if not exclude_seen or i not in seen_by(data, user)]
            best = sorted(left, key=lambda item: -taste.of(user, item))[:2]
            for rank, item in enumerate(best, start=1):
                row = data.items.row(item - 1, named=True)
                score = float(np.float32(taste.of(user, item)))
                expected.append((user_id, domain, rank, row["item_id"], row["title"], score))
    assert found.rows() == expected
    assert found.schema == RECOMMENDATION_SCHEMA


def test_every_user_gets_items_of_every_domain_and_nothing_met_before(data: Dataset) -> None:
    found = recommendations(data, Preference(data), RecommendationConfig(per_domain=1))
    counts = found.group_by("user_id", "domain").len()
    assert counts.height == data.users.height * 2
    assert counts["len"].unique().to_list() == [1]
    index_of = {
        (d, i): n for d, i, n in data.items.select("domain", "item_id", "item_index").rows()
    }
    users = dict(data.users.select("user_id", "user_index").iter_rows())
    for user, domain, item in found.select("user_id", "domain", "item_id").iter_rows():
        assert index_of[domain, item] not in seen_by(data, users[user])


def test_an_item_that_nobody_bought_can_be_everyones_best(data: Dataset) -> None:
    bought = set(data.item_indices.tolist())
    cold = next(n for n in data.items["item_index"] if n not in bought)
    found = recommendations(data, Preference(data, cold), RecommendationConfig(per_domain=1))
    row = data.items.row(cold - 1, named=True)
    best = found.filter(pl.col("domain") == row["domain"])
    assert best["item_id"].to_list() == [row["item_id"]] * data.users.height
    assert (row["domain"], row["item_id"]) in TITLES


def test_a_list_longer_than_what_is_left_ends_early_without_gaps(data: Dataset) -> None:
    found = recommendations(data, Preference(data), RecommendationConfig(per_domain=50))
    sizes = dict(data.items.group_by("domain").len().iter_rows())
    for (user, domain), rows in found.group_by("user_id", "domain"):
        index = data.users.filter(pl.col("user_id") == user)["user_index"][0]
        domains = data.items["domain"]
        seen = sum(domains[item - 1] == domain for item in seen_by(data, index))
        assert rows["rank"].to_list() == list(range(1, sizes[domain] - seen + 1))


@pytest.mark.parametrize("users", [1, 3, 8192])
def test_the_stage_writes_the_best_of_a_model_however_many_users_a_block_has(
    store: Store, monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    monkeypatch.setattr(tasks.recommend, "BLOCK_USERS", users)
    parts = parts_of(store, small_release(store))
    data = read_dataset(store, parts["dataset"])
    fitted, _ = load_model(store.path(parts["model"]))
    config = RecommendationConfig(per_domain=3)
    made = recommend.fn(parts["dataset"], parts["model"], config, store.root)
    table = read_table(store, made.ref, RECOMMENDATIONS)
    assert table.schema == RECOMMENDATION_SCHEMA
    assert table["user_id"].is_sorted()

    sequences, scorer = sequences_of(data), ModelScorer(fitted)
    lists = {
        (user, domain): best_items(scorer, sequences, np.array([index]), number, 3)
        for index, user in data.users.select("user_index", "user_id").iter_rows()
        for number, domain in enumerate(data.domains)
    }
    assert table.select("user_id", "domain").unique().height == len(lists)
    for (user, domain), rows in table.group_by("user_id", "domain"):
        best = lists[str(user), str(domain)]
        ids = [data.items["item_id"][item - 1] for item in best.items[0].tolist() if item]
        assert rows["item_id"].to_list() == ids
        np.testing.assert_allclose(rows["score"], best.scores[0, : len(ids)], atol=1e-5)
    assert made.counts["rows"] == table.height
    assert made.counts["users"] == data.users.height


@pytest.mark.parametrize("exact_up_to", [0, 4])
def test_a_domain_above_the_limit_is_searched_and_its_recall_is_stated(
    store: Store, exact_up_to: int
) -> None:
    parts = parts_of(store, small_release(store))
    config = RecommendationConfig(per_domain=3)
    whole = recommend.fn(parts["dataset"], parts["model"], config, store.root)
    assert INDEX_RECALL not in whole.counts
    assert not any("index" in note for note in whole.notes)

    data = read_dataset(store, parts["dataset"])
    sizes = np.diff(data.domain_starts).tolist()
    searching = config.model_copy(update={"exact_up_to": exact_up_to})
    searched = recommend.fn(parts["dataset"], parts["model"], searching, store.root)
    assert searched.ref != whole.ref
    large = [name for name, size in zip(data.domains, sizes, strict=True) if size > exact_up_to]
    assert large
    assert [note.split(":")[0] for note in searched.notes if "index" in note] == large
    # Few items lie in one list of the index, which therefore finds all.
    assert searched.counts[INDEX_RECALL] == 1.0
    exact, found = (read_table(store, made.ref, RECOMMENDATIONS) for made in (whole, searched))
    assert found.drop("score").equals(exact.drop("score"))
    np.testing.assert_allclose(found["score"], exact["score"], atol=1e-5)


class Forgetful:
    """Proposes half of what is asked for: the other half is never found."""

    def columns(self, states: NDArray[np.float32], count: int) -> IntArray:
        return np.tile(np.array([0, 1]), (len(states), 1))


def test_the_recall_is_that_of_a_reader_who_compares_the_lists(store: Store) -> None:
    parts = parts_of(store, small_release(store))
    data = read_dataset(store, parts["dataset"])
    fitted, _ = load_model(store.path(parts["model"]))
    # Without the memory, which proposes items of its own.
    fitted.memory = None
    config = RecommendationConfig(per_domain=2, exclude_seen=False)
    scorer = ModelScorer(fitted)
    first = int(data.domain_starts[1]) + 1
    exact = recommendations(data, scorer, config).filter(domain=data.domains[1])
    index_of = dict(
        data.items.filter(domain=data.domains[1]).select("item_id", "item_index").rows()
    )
    hits = sum(index_of[item] in (first, first + 1) for item in exact["item_id"])
    assert 0 < hits < exact.height
    found = index_recalls(data, scorer, config, {1: Forgetful()})
    assert found == {1: pytest.approx(hits / exact.height)}


def test_the_limit_that_is_usual_leaves_the_name_of_older_lists(store: Store) -> None:
    parts = parts_of(store, small_release(store))
    made = recommend.fn(parts["dataset"], parts["model"], RecommendationConfig(), store.root)
    assert store.manifest(made.ref).parameters == {"per_domain": 10, "exclude_seen": True}


@pytest.mark.parametrize("users", [1, 2])
def test_counts_of_blocks_are_those_of_the_whole_table(
    store: Store, monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    monkeypatch.setattr(tasks.recommend, "BLOCK_USERS", users)
    parts = parts_of(store, small_release(store))
    made = recommend.fn(parts["dataset"], parts["model"], RecommendationConfig(), store.root)
    data = read_dataset(store, parts["dataset"])
    table = read_table(store, made.ref, RECOMMENDATIONS)
    assert made.counts == recommendation_counts(data, table)
