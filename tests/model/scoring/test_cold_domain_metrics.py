"""The figures of a withheld domain, against expectations one can work out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.sequences import COLD_TEST, Prefixes, Sequences
from model.scoring.cold_domain_metrics import (
    ALL_NDCG,
    ANY_HIT,
    FIRST_HIT,
    FIRST_NDCG,
    ColdGains,
    measure_cold,
)

NAMES = ("food", "kitchen")
FOOD, KITCHEN = 5, 24


class Fixed:
    """The same scores for everyone, by domain."""

    def __init__(self, *scores: list[float]) -> None:
        self.scores = [torch.tensor(of_domain) for of_domain in scores]

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        return self.scores[domain].expand(len(prefixes), -1)


def measured(scorer: Fixed, withheld: list[int], split: int = COLD_TEST) -> ColdGains:
    """User 0 has kitchen items withheld, given by column; user 1 food's second one."""
    items = [1, *(FOOD + 1 + column for column in withheld), 2, 3, *[FOOD + 3, 2, FOOD + 4]]
    marks = [0, *[split] * len(withheld), 0, 0, *[0, split, 0]]
    first = 3 + len(withheld)
    sequences = Sequences(
        np.array([0, first, first + 3]),
        np.array(items),
        np.array(marks),
        np.array([0, FOOD, FOOD + KITCHEN]),
        NAMES,
    )
    return measure_cold(scorer, sequences.prefixes_of_withheld(split))


DOWN = [float(-n) for n in range(KITCHEN)]
FLAT = [0.0] * KITCHEN


def test_ranks_of_withheld_items_make_the_values() -> None:
    gains = measured(Fixed([1, 5, 4, 3, 2], DOWN), [9, 2, 20])
    assert gains.users.tolist() == [0, 1]
    assert gains.values[ANY_HIT].tolist() == [1, 1]
    assert gains.values[FIRST_HIT].tolist() == [1, 1]
    assert gains.values[FIRST_NDCG][0] == pytest.approx(1 / math.log2(11))
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    expected = (1 / math.log2(11) + 1 / math.log2(4)) / ideal
    assert gains.values[ALL_NDCG][0] == pytest.approx(expected)


def test_the_first_event_may_miss_where_another_hits() -> None:
    gains = measured(Fixed([1, 5, 4, 3, 2], DOWN), [15, 0])
    assert gains.values[ANY_HIT][0] == 1
    assert gains.values[FIRST_HIT][0] == gains.values[FIRST_NDCG][0] == 0


def test_a_constant_scorer_scores_like_chance() -> None:
    gains = measured(Fixed([1] * FOOD, FLAT), [3, 8, 11])
    none = math.comb(KITCHEN - 3, 10) / math.comb(KITCHEN, 10)
    assert gains.values[ANY_HIT][0] == pytest.approx(1 - none)
    assert gains.values[FIRST_HIT][0] == pytest.approx(10 / KITCHEN)
    assert gains.values[ANY_HIT][1] == 1  # a domain of five


def test_items_tied_across_the_tenth_place_share_it() -> None:
    scores = [9.0] * 8 + [5.0] * 6 + [1.0] * 10
    gains = measured(Fixed([1] * FOOD, scores), [8, 9, 23])
    assert gains.values[ANY_HIT][0] == pytest.approx(1 - (4 / 6) * (3 / 5))


def test_a_withheld_item_counts_once_however_often_it_was_chosen() -> None:
    scorer = Fixed([1] * FOOD, DOWN)
    once, thrice = measured(scorer, [4, 12]), measured(scorer, [4, 12, 4, 4])
    for metric, values in once.values.items():
        assert values.tolist() == thrice.values[metric].tolist()


def test_directions_name_where_the_history_is_and_what_was_withheld() -> None:
    gains = measured(Fixed([1] * FOOD, DOWN), [4])
    assert gains.directions(NAMES) == ["food → kitchen", "kitchen → food"]
