"""Intervals of the report: the metric by hand, draws that are paired, and what is left out."""

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.results import OUR_MODEL
from tasks.promoting.baseline_lead import baseline_lead
from tasks.reporting.facts.content import HeldOut
from tasks.reporting.facts.intervals import held_out, metric_intervals


def ranks(model: str, greater: list[int], equal: int = 0, ranking: str = "full") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_index": range(len(greater)),
            "model": model,
            "ranking": ranking,
            "greater": greater,
            "equal": [equal] * len(greater),
            "candidates": 500,
        }
    )


def test_the_values_are_the_metrics_by_hand_and_lie_in_their_intervals() -> None:
    (ours,) = metric_intervals(ranks("ours", [0, 2, 10, 50]), "ours")
    assert ours.ndcg[0] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert ours.hit_ratio[0] == 0.5
    assert ours.behind_ours is None
    for value, low, high in (ours.ndcg, ours.hit_ratio):
        assert low < value < high


def test_a_tie_counts_as_the_mean_over_its_orders() -> None:
    (ours,) = metric_intervals(ranks("ours", [9], equal=3), "ours")
    # One of four places is the tenth, the others miss.
    assert ours.hit_ratio[0] == 1 / 4
    assert ours.ndcg[0] == pytest.approx(1 / np.log2(11) / 4)


def test_differences_are_paired_by_user() -> None:
    # Both hit for the same half of the users; ours is a little better wherever they hit.
    greater = np.where(np.arange(200) % 2, 1, 100)
    table = pl.concat([ranks("ours", greater.tolist()), ranks("other", (greater + 1).tolist())])
    ours, other = metric_intervals(table.reverse(), "ours")
    assert (ours.model, other.model) == ("ours", "other")
    assert other.behind_ours is not None
    gain, low, high = other.behind_ours
    assert gain == pytest.approx(ours.ndcg[0] - other.ndcg[0])
    assert 0 < low < gain < high
    assert ours.ndcg[1] < other.ndcg[2]  # Apart, the two intervals tell nothing.


def test_a_difference_has_the_interval_that_the_promotion_gate_judges() -> None:
    rng = np.random.default_rng(2)
    users = rng.integers(0, 40, 300).tolist()
    tables = [
        of_users(users, rng.integers(0, most, 300).tolist(), name).with_columns(candidates=60)
        for name, most in ((OUR_MODEL, 12), ("strong", 14), ("weak", 40))
    ]
    rows = pl.concat(tables)
    lead = baseline_lead(rows)
    assert lead is not None
    (beaten,) = (row for row in metric_intervals(rows, OUR_MODEL) if row.model == lead.baseline)
    wanted = (lead.ours - lead.theirs, lead.low, lead.high)
    assert beaten.behind_ours == pytest.approx(wanted, abs=1e-12)


def of_users(users: list[int], greater: list[int], model: str = "ours") -> pl.DataFrame:
    return ranks(model, greater).with_columns(pl.Series("user_index", users))


def test_the_events_of_a_user_are_drawn_together() -> None:
    # Two users of 100 events each, one always right: a mean is 0, a half or 1, never near 0.45.
    many = of_users([0] * 100 + [1] * 100, [0] * 100 + [50] * 100)
    (ours,) = metric_intervals(many, "ours")
    assert ours.hit_ratio == (0.5, 0.0, 1.0)
    assert held_out(many, "ours") == HeldOut(events=200, users=2)


def test_a_user_weighs_as_many_events_as_they_have() -> None:
    (ours,) = metric_intervals(of_users([0, 1, 1, 1], [0, 50, 0, 50]), "ours")
    assert ours.hit_ratio[0] == 2 / 4


def test_the_order_of_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(0, 30, 400).tolist()
    tables = [of_users(users, rng.integers(0, 20, 400).tolist(), name) for name in ("ours", "b")]
    straight = metric_intervals(pl.concat(tables), "ours")
    shuffled = pl.concat([table.sample(fraction=1, shuffle=True, seed=1) for table in tables])
    assert metric_intervals(shuffled, "ours") == straight


def test_ours_comes_first_and_the_others_by_their_value() -> None:
    table = pl.concat([ranks("weak", [8, 8]), ranks("strong", [0, 0]), ranks("ours", [4, 4])])
    assert [row.model for row in metric_intervals(table, "ours")] == ["ours", "strong", "weak"]


def test_without_full_ranks_of_ours_there_is_nothing_to_tell() -> None:
    assert metric_intervals(ranks("other", [0]), "ours") == ()
    assert metric_intervals(ranks("ours", [0], ranking="sampled"), "ours") == ()
