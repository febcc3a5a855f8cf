import math
import tracemalloc

import numpy as np
import pytest

from model.baselines.simple import (
    History,
    Popularity,
    item_neighbours,
    markov_chain,
    sequence_rules,
)
from model.data import co_occurrence
from model.data.sequences import sequences_from_lists
from model.scoring.model_scorer import Scorer

STARTS, NAMES = [0, 3, 6], ("a", "b")


def scores(scorer: Scorer, lists: list[list[int]], domain: int) -> np.ndarray:
    asked = sequences_from_lists(lists, STARTS, NAMES)
    return scorer.score(asked.prefixes_of_users(np.arange(len(lists))), domain).numpy()


def test_popularity_counts_training_events_only() -> None:
    sequences = sequences_from_lists([[1, 4, 1, 2, 2], [1, 3]], STARTS, NAMES, held_out=2)
    popularity = Popularity.fit(sequences)
    assert scores(popularity, [[1], []], 0).tolist() == [[3, 0, 1], [3, 0, 1]]
    assert scores(popularity, [[1]], 1).tolist() == [[1, 0, 0]]


def test_history_prefers_what_was_met_last() -> None:
    history = History(np.array(STARTS))
    assert scores(history, [[1, 4, 3, 1]], 0).tolist() == [[1, 0, 1 / 2]]


def test_neighbours_are_weighed_by_cosine() -> None:
    sequences = sequences_from_lists([[1, 2], [1, 4], [2, 1], [4, 5]], STARTS, NAMES)
    got = scores(item_neighbours(sequences), [[1], [1, 4]], 1)
    one_four, four_five = 1 / math.sqrt(3 * 2), 1 / math.sqrt(2 * 1)
    assert got[0].tolist() == pytest.approx([one_four, 0, 0])
    assert got[1].tolist() == pytest.approx([one_four, four_five, 0])


def test_a_repeat_adds_nobody_to_the_set_of_users() -> None:
    once = sequences_from_lists([[1, 2], [2, 4], [1]], STARTS, NAMES)
    often = sequences_from_lists([[1, 1, 2, 1, 2], [2, 4, 4], [1, 1]], STARTS, NAMES)
    for domain in (0, 1):
        expected = scores(item_neighbours(once), [[1], [2, 4]], domain)
        assert (scores(item_neighbours(often), [[1], [2, 4]], domain) == expected).all()


def test_only_the_newest_items_of_a_user_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(co_occurrence, "NEWEST_ITEMS", 2)
    sequences = sequences_from_lists([[1, 5, 3, 3, 5, 4]], STARTS, NAMES)
    neighbours = item_neighbours(sequences)
    assert scores(neighbours, [[5]], 1).tolist() == [[1, 0, 0]]
    assert not scores(neighbours, [[5]], 0).any()
    assert not scores(neighbours, [[4, 1, 1]], 1).any()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(1, 7, size=length).tolist() for length in rng.integers(0, 9, size=40)]
    sequences = sequences_from_lists(lists, STARTS, NAMES)
    whole = scores(item_neighbours(sequences), lists, 1)
    monkeypatch.setattr(co_occurrence, "BLOCK_PAIRS", 3)
    np.testing.assert_allclose(scores(item_neighbours(sequences), lists, 1), whole, rtol=1e-6)


def test_a_long_history_costs_no_square_of_its_length() -> None:
    sequences = sequences_from_lists([list(range(1, 4001))], [0, 4000], ("a",))
    asked = sequences.prefixes_of_users(np.zeros(1, np.int64))
    tracemalloc.start()
    try:
        item_neighbours(sequences).score(asked, 0)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20  # its 8e6 pairs take 200 MB
    finally:
        tracemalloc.stop()


def test_the_chain_weighs_nearer_pairs_and_newer_events_more() -> None:
    sequences = sequences_from_lists([[1, 2, 3], [1, 3]], STARTS, NAMES)
    chain = markov_chain(sequences, decay=0.5, reach=2)
    after_one = [0, 1 / 2.5, 1.5 / 2.5]
    assert scores(chain, [[1]], 0)[0].tolist() == pytest.approx(after_one)
    assert scores(chain, [[1, 2]], 0)[0].tolist() == pytest.approx([0, 0.2, 1 + 0.3])


def test_a_rule_weighs_one_over_its_distance_within_its_window() -> None:
    sequences = sequences_from_lists([[1, 2, 3], [1, 3, 2, 2]], STARTS, NAMES)
    rules = sequence_rules(sequences, window=2, decay=0.5)
    all_after_one = 2 * (1 + 1 / 2)  # both users: one event at distance 1, one at distance 2
    after_one = [0, (1 + 1 / 2) / all_after_one, (1 / 2 + 1) / all_after_one]
    assert scores(rules, [[1]], 0)[0].tolist() == pytest.approx(after_one)
    only_three_follows_two = 1 / (1 + 1)  # 2 -> 3 once, 2 -> 2 once
    assert scores(rules, [[2]], 0)[0, 2] == pytest.approx(only_three_follows_two)


def test_an_item_that_was_never_met_in_training_has_no_neighbours() -> None:
    sequences = sequences_from_lists([[1, 2]], STARTS, NAMES)
    assert not scores(markov_chain(sequences), [[6], []], 0).any()
