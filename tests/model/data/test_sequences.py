import numpy as np
import pytest

from model.data.sequences import (
    COLD_TEST,
    COLD_VALIDATION,
    TEST,
    TRAIN,
    VALIDATION,
    InvalidSequencesError,
    Sequences,
    sequences_from_lists,
)

STARTS, NAMES = [0, 3, 7], ("food", "kitchen")


def small() -> Sequences:
    return sequences_from_lists([[1, 4, 2, 7], [], [5], [3, 3, 6]], STARTS, NAMES, held_out=2)


def test_domains_own_consecutive_items_from_one() -> None:
    assert small().domain_of(np.array([1, 3, 4, 7])).tolist() == [0, 0, 1, 1]
    assert [small().domain_size(d) for d in range(2)] == [3, 4]


def test_users_with_fewer_than_three_events_only_train() -> None:
    sequences = small()
    assert sequences.split[sequences.offsets[2] : sequences.offsets[3]].tolist() == [TRAIN]
    assert sequences.split[:4].tolist() == [TRAIN, TRAIN, VALIDATION, TEST]


def test_the_prefix_of_the_test_event_holds_the_validation_event() -> None:
    prefixes = small().prefixes_of_split(TEST)
    assert prefixes.users.tolist() == [0, 3]
    assert prefixes.targets.tolist() == [7, 6]
    assert (prefixes.stop - prefixes.start).tolist() == [3, 2]


def test_a_user_may_have_several_test_events_each_after_the_one_before() -> None:
    sequences = Sequences(
        np.array([0, 4]), np.array([1, 2, 5, 6]), np.array([0, 2, 2, 2]), np.array(STARTS), NAMES
    )
    prefixes = sequences.prefixes_of_split(TEST)
    assert prefixes.targets.tolist() == [2, 5, 6]
    assert (prefixes.stop - prefixes.start).tolist() == [1, 2, 3]


def test_training_holds_no_held_out_event_and_all_users() -> None:
    training = small().training()
    assert training.user_count == 4
    assert training.items.tolist() == [1, 4, 5, 3]
    assert np.diff(training.offsets).tolist() == [2, 0, 1, 1]


@pytest.mark.parametrize(
    ("offsets", "items", "split", "message"),
    [
        ([0, 2], [1, 2, 3], [0, 0, 0], "offsets"),
        ([0, 2], [1, 8], [0, 0], "catalogue"),
        ([0, 2], [0, 1], [0, 0], "catalogue"),
        ([0, 2], [1, 2], [2, 0], "event 1"),
        ([0, 2], [1, 2], [0], "split"),
    ],
)
def test_broken_histories_are_refused_with_the_rule(
    offsets: list[int], items: list[int], split: list[int], message: str
) -> None:
    with pytest.raises(InvalidSequencesError, match=message):
        Sequences(np.array(offsets), np.array(items), np.array(split), np.array(STARTS), NAMES)


def test_the_split_may_fall_back_between_two_users() -> None:
    sequences = sequences_from_lists([[1, 2, 3], [4, 5]], STARTS, NAMES, held_out=2)
    assert sequences.split.tolist() == [0, 1, 2, 0, 0]


def with_withheld() -> Sequences:
    """User 0 validates, user 1 has kitchen (4 to 7) withheld, user 2 food (1 to 3)."""
    items = [1, 4, 2, *[4, 1, 5, 2, 4, 3], *[6, 3, 7, 6]]
    split = [0, 0, 1, *[4, 0, 4, 0, 4, 0], *[0, 3, 0, 0]]
    return Sequences(
        np.array([0, 3, 9, 13]), np.array(items), np.array(split), np.array(STARTS), NAMES
    )


def test_withheld_events_may_stand_anywhere_and_are_in_no_training() -> None:
    assert with_withheld().training().items.tolist() == [1, 4, 1, 2, 3, 6, 7, 6]
    assert with_withheld().before_test().items.tolist() == [1, 4, 2, 1, 2, 3, 6, 7, 6]


def test_each_withheld_item_is_asked_for_once_after_all_that_is_left() -> None:
    prefixes = with_withheld().prefixes_of_withheld(COLD_TEST)
    assert prefixes.users.tolist() == [1, 1]
    assert prefixes.targets.tolist() == [4, 5]
    for start, stop in zip(prefixes.start, prefixes.stop, strict=True):
        assert prefixes.sequences.items[start:stop].tolist() == [1, 2, 3]
    cold = with_withheld().prefixes_of_withheld(COLD_VALIDATION)
    assert (cold.users.tolist(), cold.targets.tolist()) == ([2], [3])


def test_no_other_prefix_sees_a_withheld_event() -> None:
    prefixes = with_withheld().prefixes_of_split(VALIDATION)
    assert prefixes.targets.tolist() == [2]
    assert prefixes.sequences.items.tolist() == [1, 4, 2, 1, 2, 3, 6, 7, 6]


def test_around_withheld_events_training_still_comes_before_validation() -> None:
    with pytest.raises(InvalidSequencesError, match="event 2"):
        Sequences(
            np.array([0, 3]),
            np.array([1, 4, 2]),
            np.array([1, 4, 0]),
            np.array(STARTS),
            NAMES,
        )
