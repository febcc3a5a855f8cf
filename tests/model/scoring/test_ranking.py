import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from torch import Tensor

from model.data.sequences import TEST, Prefixes, Sequences, sequences_from_lists
from model.scoring.ranking import (
    NanScoreError,
    Ranks,
    rank_all,
    rank_sampled,
    ranking_metrics,
    sample_candidates,
)

STARTS, NAMES = [0, 4, 10], ("a", "b")


@dataclass
class TableScorer:
    """Gives every user the scores of a table (U, V + 1)."""

    table: np.ndarray

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = STARTS[domain : domain + 2]
        return torch.from_numpy(self.table[prefixes.users, low + 1 : high + 1])


def naive_expected_ndcg(sequences: Sequences, table: np.ndarray, k: int) -> list[float]:
    """Sort, then average over every place the target can take among its ties."""
    found = []
    for user in range(sequences.user_count):
        history = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]].tolist()
        if len(history) < 3:
            continue
        *seen, target = history
        domain = 0 if target <= STARTS[1] else 1
        others = [
            table[user, item]
            for item in range(STARTS[domain] + 1, STARTS[domain + 1] + 1)
            if item != target and item not in seen
        ]
        above = sum(score > table[user, target] for score in others)
        tied = sum(score == table[user, target] for score in others)
        places = range(above + 1, above + tied + 2)
        gains = [1 / math.log2(p + 1) if p <= k else 0.0 for p in places]
        found.append(sum(gains) / len(gains))
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 10), max_size=8), min_size=1, max_size=7),
    st.integers(1, 4),
    st.integers(0, 999),
)
def test_full_ranking_matches_a_naive_sort_with_ties(
    lists: list[list[int]], levels: int, seed: int
) -> None:
    sequences = sequences_from_lists(lists, STARTS, NAMES, held_out=2)
    table = np.random.default_rng(seed).integers(0, levels, (len(lists), 11)).astype(np.float32)
    ranks = rank_all(TableScorer(table), sequences.prefixes_of_split(TEST))
    wanted = naive_expected_ndcg(sequences, table, 3)
    got = ranking_metrics(ranks, (3,)).ndcg[3]
    assert got == pytest.approx(np.mean(wanted)) if wanted else math.isnan(got)


def test_ndcg_agrees_with_scikit_learn() -> None:
    sequences = sequences_from_lists([[1, 2, 3 + n % 8] for n in range(20)], STARTS, NAMES, 2)
    table = np.random.default_rng(0).normal(size=(20, 11)).astype(np.float32)
    prefixes = sequences.prefixes_of_split(TEST)
    domains = sequences.domain_of(prefixes.targets)
    wanted = []
    for user, target, domain in zip(prefixes.users, prefixes.targets, domains, strict=True):
        items = [i for i in range(STARTS[domain] + 1, STARTS[domain + 1] + 1) if i not in (1, 2)]
        truth = [[float(item == target) for item in items]]
        wanted.append(ndcg_score(truth, [table[user, items].tolist()], k=2))
    got = ranking_metrics(rank_all(TableScorer(table), prefixes), (2,))
    assert got.ndcg[2] == pytest.approx(np.mean(wanted))


def test_metrics_as_arithmetic() -> None:
    ranks = Ranks(
        users=np.arange(3),
        domains=np.array([0, 1, 1]),
        greater=np.array([0, 2, 30]),
        equal=np.array([0, 1, 0]),
        candidates=np.array([99, 99, 99]),
    )
    metrics = ranking_metrics(ranks, (3, 10))
    assert metrics.hit_rate[3] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert metrics.hit_rate[10] == pytest.approx(2 / 3)
    assert metrics.ndcg[10] == pytest.approx((1 + (1 / 2 + 1 / math.log2(5)) / 2) / 3)
    assert metrics.reciprocal_rank[10] == pytest.approx((1 + (1 / 3 + 1 / 4) / 2) / 3)
    assert ranking_metrics(ranks.select(ranks.domains == 0), (10,)).ndcg[10] == 1.0


def test_a_constant_scorer_scores_exactly_like_chance() -> None:
    sequences = sequences_from_lists([[1, 2, 5 + n % 6] for n in range(30)], STARTS, NAMES, 2)
    ranks = rank_all(TableScorer(np.ones((30, 11), np.float32)), sequences.prefixes_of_split(TEST))
    assert ranking_metrics(ranks, (2,)).hit_rate[2] == pytest.approx(2 / 6)


def test_seen_items_are_no_candidates_but_a_repeated_target_stays() -> None:
    sequences = sequences_from_lists([[5, 6, 5, 5]], STARTS, NAMES, 2)
    table = np.arange(11, dtype=np.float32)[None]
    ranks = rank_all(TableScorer(table), sequences.prefixes_of_split(TEST))
    assert ranks.greater.tolist() == [4]  # 7, 8, 9 and 10, not the 6 that was seen
    assert ranks.candidates.tolist() == [4]


def test_nothing_to_rank_is_nan_and_not_zero() -> None:
    sequences = sequences_from_lists([[1]], STARTS, NAMES, 2)
    ranks = rank_all(TableScorer(np.ones((1, 11))), sequences.prefixes_of_split(TEST))
    assert math.isnan(ranking_metrics(ranks, (10,)).ndcg[10])


def test_a_nan_score_is_an_error_that_names_the_user() -> None:
    sequences = sequences_from_lists([[1, 2, 3], [1, 2, 6]], STARTS, NAMES, 2)
    table = np.ones((2, 11), np.float32)
    table[1, 8] = np.nan
    with pytest.raises(NanScoreError, match="user 1 in domain 'b'"):
        rank_all(TableScorer(table), sequences.prefixes_of_split(TEST))


def test_minus_infinity_is_a_score_like_any_other() -> None:
    sequences = sequences_from_lists([[1, 2, 6]], STARTS, NAMES, 2)
    table = np.full((1, 11), -np.inf, np.float32)
    table[0, 9] = np.inf
    ranks = rank_all(TableScorer(table), sequences.prefixes_of_split(TEST))
    assert (ranks.greater[0], ranks.equal[0]) == (1, 4)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 10), min_size=3, max_size=8), min_size=1, max_size=7),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_candidates_avoid_the_history_and_do_not_depend_on_the_order_of_users(
    lists: list[list[int]], count: int, seed: int
) -> None:
    sequences = sequences_from_lists(lists, STARTS, NAMES, 2)
    prefixes = sequences.prefixes_of_split(TEST)
    drawn = sample_candidates(sequences, prefixes, count, seed)
    backwards = np.arange(len(prefixes))[::-1]
    again = sample_candidates(sequences, prefixes.select(backwards), count, seed)
    assert np.array_equal(again, drawn[backwards])
    for row, target in enumerate(prefixes.targets.tolist()):
        low, high = (0, 4) if target <= 4 else (4, 10)
        items = [item for item in drawn[row].tolist() if item]
        free = set(range(low + 1, high + 1)) - set(lists[prefixes.users[row]])
        assert len(items) == len(set(items)) == min(count, len(free))
        assert set(items) <= free


def test_ranking_against_all_unseen_items_is_the_full_ranking() -> None:
    rng = np.random.default_rng(1)
    lists = [rng.integers(1, 11, rng.integers(3, 7)).tolist() for _ in range(30)]
    sequences = sequences_from_lists(lists, STARTS, NAMES, 2)
    prefixes = sequences.prefixes_of_split(TEST)
    scorer = TableScorer(rng.integers(0, 4, (30, 11)).astype(np.float32))
    full = rank_all(scorer, prefixes)
    sampled = rank_sampled(scorer, prefixes, sample_candidates(sequences, prefixes, 10, seed=0))
    assert np.array_equal(full.greater, sampled.greater)
    assert np.array_equal(full.equal, sampled.equal)
    assert np.array_equal(full.candidates, sampled.candidates)
