"""The users and held-out events of an ablation."""

from dataclasses import replace

import numpy as np

from model.data.sequences import (
    COLD_TEST,
    TEST,
    TRAIN,
    VALIDATION,
    Sequences,
    sequences_from_lists,
)
from tasks.ablation.sample import draw_sample

STARTS, NAMES = (0, 20, 40), ("one", "two")


def histories(users: int = 200, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    lists = [rng.integers(1, 41, rng.integers(2, 12)).tolist() for _ in range(users)]
    return sequences_from_lists(lists, STARTS, NAMES, held_out=2)


def test_test_events_change_nothing_in_a_sample() -> None:
    before = histories()
    items = before.items.copy()
    items[before.split == TEST] = 1
    after = replace(before, items=items)
    one, two = (draw_sample(given, 80, None, seed=3) for given in (before, after))
    assert np.array_equal(one.users, two.users)
    assert np.array_equal(one.sequences.items, two.sequences.items)
    assert np.array_equal(one.sequences.split, two.sequences.split)


def test_users_with_a_profile_are_drawn_before_all_others() -> None:
    given = histories()
    has_profile = np.zeros(given.user_count, bool)
    has_profile[::4] = True
    sample = draw_sample(given, 60, has_profile, seed=1)
    enough = np.diff(given.before_test().offsets) >= 3
    assert len(sample.users) == 60
    assert set(np.flatnonzero(has_profile & enough)) <= set(sample.users.tolist())


def test_fewer_users_than_asked_are_all_drawn_and_short_histories_never() -> None:
    given = histories()
    sample = draw_sample(given, 10_000, None, seed=1)
    lengths = np.diff(given.before_test().offsets)
    assert sample.users.tolist() == np.flatnonzero(lengths >= 3).tolist()
    assert sample.eligible == len(sample.users)


def test_a_withheld_domain_is_withheld_whole_and_its_user_has_no_other_held_out_event() -> None:
    sequences = draw_sample(histories(), 10_000, None, seed=2).sequences
    users, domains = sequences.event_users, sequences.domain_of(sequences.items)
    cold = np.unique(users[sequences.split == COLD_TEST])
    assert len(cold)
    for user in cold.tolist():
        own = users == user
        withheld = own & (sequences.split == COLD_TEST)
        (domain,) = np.unique(domains[withheld])
        assert np.array_equal(withheld, own & (domains == domain))
        assert np.all(sequences.split[own & ~withheld] == TRAIN)
        assert np.count_nonzero(own & ~withheld) >= 3


def test_every_other_user_has_one_event_that_is_measured_or_validates() -> None:
    sequences = draw_sample(histories(), 10_000, None, seed=2).sequences
    users = sequences.event_users
    cold = np.unique(users[sequences.split == COLD_TEST])
    held_out = np.isin(sequences.split, (VALIDATION, TEST))
    counts = np.bincount(users[held_out], minlength=sequences.user_count)
    assert np.all(counts == ~np.isin(np.arange(sequences.user_count), cold))
    assert 0 < np.count_nonzero(sequences.split == VALIDATION) < np.count_nonzero(held_out) / 2
