import numpy as np
import pytest

from model.data.sequences import TEST, TRAIN, VALIDATION, sequences_from_lists
from model.data.splits import leave_one_out, moments_of_shares, split_by_time, split_by_user


def test_leave_one_out_takes_the_last_two_of_users_with_three_events() -> None:
    split = leave_one_out(np.array([0, 4, 4, 6, 7, 10]))
    assert split.tolist() == [0, 0, 1, 2, 0, 0, 0, 0, 1, 2]


def test_leave_one_out_is_what_small_histories_by_hand_have() -> None:
    rng = np.random.default_rng(0)
    lists = [[1] * int(length) for length in rng.integers(0, 6, 40)]
    by_hand = sequences_from_lists(lists, [0, 1], ("a",), held_out=2)
    assert np.array_equal(leave_one_out(by_hand.offsets), by_hand.split)


def test_by_time_a_moment_belongs_to_what_begins_with_it() -> None:
    split = split_by_time(np.array([1, 5, 6, 9, 10, 3]), validation_from=5, test_from=9)
    assert split.tolist() == [TRAIN, VALIDATION, VALIDATION, TEST, TEST, TRAIN]


def test_held_out_users_are_held_out_whole() -> None:
    validates, tests = np.array([False, True, False]), np.array([False, False, True])
    split = split_by_user(np.array([0, 2, 3, 5]), validates, tests)
    assert split.tolist() == [TRAIN, TRAIN, VALIDATION, TEST, TEST]


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.25, 0.05), (0.001, 0.001)])
def test_shares_are_met_as_nearly_as_the_times_allow(validation: float, test: float) -> None:
    times = np.random.default_rng(1).permutation(10_000)
    marks = split_by_time(times, *moments_of_shares(times, validation, test))
    assert np.mean(marks == TEST) == pytest.approx(test, abs=1e-3)
    assert np.mean(marks == VALIDATION) == pytest.approx(validation, abs=1e-3)


def test_a_first_event_is_never_asked_for() -> None:
    sequences = sequences_from_lists([[1, 2, 2], [], [2, 1]], [0, 1, 2], ("a", "b"))
    marks = split_by_user(sequences.offsets, np.zeros(3, bool), np.array([True, False, True]))
    held_out = type(sequences)(
        sequences.offsets, sequences.items, marks, sequences.domain_starts, sequences.domain_names
    )
    prefixes = held_out.prefixes_of_split(TEST)
    assert prefixes.users.tolist() == [0, 0, 2]
    assert (prefixes.stop - prefixes.start).tolist() == [1, 2, 1]
    assert len(held_out.training().items) == 0
