"""A paired comparison finds a difference that is there, and none that is not."""

from __future__ import annotations

import numpy as np
import pytest

from model.scoring.bootstrap import paired_bootstrap


def gains(users: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(users)


def test_a_clear_difference_is_found_with_its_size() -> None:
    ours = gains(300, 0)
    (found,) = paired_bootstrap(ours + 0.1, ours[:, None] + gains(300, 1)[:, None] * 0.02)
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(0.09, abs=0.002)
    assert found.low > 0
    assert found.p_value == pytest.approx(2 / 2001)


def test_noise_alone_is_no_difference() -> None:
    (found,) = paired_bootstrap(gains(400, 2), gains(400, 3)[:, None])
    assert found.low < 0 < found.high
    assert found.p_value > 0.05


def test_a_model_against_itself_is_certainly_equal() -> None:
    ours = gains(50, 4)
    (found,) = paired_bootstrap(ours, ours[:, None], draws=50)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_interval_is_that_of_a_plain_loop() -> None:
    ours, rival = gains(60, 5), gains(60, 6)
    (found,) = paired_bootstrap(ours, rival[:, None], draws=200, seed=9)
    rng = np.random.default_rng(9)
    means = []
    for _ in range(200):
        drawn = rng.integers(0, 60, 60)
        means.append(sum(float(ours[user] - rival[user]) for user in drawn) / 60)
    assert found.low == pytest.approx(np.quantile(means, 0.025))
    assert found.high == pytest.approx(np.quantile(means, 0.975))


def test_rivals_are_judged_on_the_same_draws_and_the_seed_decides_them() -> None:
    ours, rival = gains(80, 7), gains(80, 8)
    both = paired_bootstrap(ours, np.column_stack([rival, rival]), draws=100)
    assert both[0] == both[1]
    alone, other = (paired_bootstrap(ours, rival[:, None], 100, seed)[0] for seed in (0, 1))
    assert both[0].low == pytest.approx(alone.low)
    assert both[0].low != pytest.approx(other.low)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="no user was ranked"):
        paired_bootstrap(np.empty(0), np.empty((0, 1)))
