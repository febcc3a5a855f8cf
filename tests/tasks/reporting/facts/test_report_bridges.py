"""Bridges between domains, against a plain look at every pair."""

from itertools import product

import numpy as np
import pytest

from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.store import Store
from tasks.reporting.facts import examples
from tasks.reporting.facts.examples import bridges
from tests.tasks.shops.small_shop import SmallShop


@pytest.fixture
def data(store: Store) -> Dataset:
    return read_dataset(store, SmallShop().ingested(store))


@pytest.fixture
def vectors(data: Dataset) -> np.ndarray:
    made = np.random.default_rng(4).normal(size=(data.items.height + 1, 5)).astype(np.float32)
    made[0] = 0
    return made


def test_the_closest_pair_of_titled_items_of_two_domains_comes_first(
    data: Dataset, vectors: np.ndarray
) -> None:
    titled = [row for row in data.items.iter_rows(named=True) if row["title"]]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    best = max(
        (float(unit[a["item_index"]] @ unit[b["item_index"]]), a["title"], b["title"])
        for a, b in product(titled, titled)
        if (a["domain"], b["domain"]) == ("books", "gear")
    )
    first = bridges(data, vectors)[0]
    assert first.domains == ("books", "gear")
    assert first.titles == best[1:]
    assert first.similarity == pytest.approx(best[0], abs=1e-6)


def test_an_item_is_in_one_pair_only_and_pairs_fall_in_similarity(
    data: Dataset, vectors: np.ndarray
) -> None:
    found = bridges(data, vectors)
    titles = [title for bridge in found for title in bridge.titles]
    assert len(titles) == len(set(titles))
    assert len(found) == 3  # Three books have a title, and four of the gear.
    similarities = [bridge.similarity for bridge in found]
    assert similarities == sorted(similarities, reverse=True)


def test_no_more_are_shown_than_fit(
    data: Dataset, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "BRIDGES", 2)
    assert len(bridges(data, vectors)) == 2
