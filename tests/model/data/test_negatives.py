import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.negatives import UnseenItems, draw_pairs
from model.data.sequences import sequences_from_lists

STARTS, NAMES = [0, 4, 9], ("a", "b")
histories = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=6)


@settings(deadline=None, max_examples=80)
@given(histories)
def test_the_unseen_items_are_exactly_the_domain_without_the_history(
    lists: list[list[int]],
) -> None:
    unseen = UnseenItems(sequences_from_lists(lists, STARTS, NAMES))
    for user, history in enumerate(lists):
        for domain in range(2):
            wanted = sorted(set(range(STARTS[domain] + 1, STARTS[domain + 1] + 1)) - set(history))
            count = int(unseen.count(np.array([user]), domain)[0])
            got = unseen.item_at(np.array(user), domain, np.arange(count)).tolist()
            assert got == wanted


def test_draws_reach_every_unseen_item_and_the_last_one_equally_often() -> None:
    sequences = sequences_from_lists([[1, 6]], STARTS, NAMES)
    drawn = UnseenItems(sequences).draw(np.array([0]), 1, 8000, np.random.default_rng(0))
    items, counts = np.unique(drawn, return_counts=True)
    assert items.tolist() == [5, 7, 8, 9]
    assert np.all(np.abs(counts - 2000) < 200)  # five standard deviations


def test_a_user_who_met_the_whole_domain_gets_no_negative() -> None:
    unseen = UnseenItems(sequences_from_lists([[1, 2, 3, 4], [2]], STARTS, NAMES))
    drawn = unseen.draw(np.array([0, 1]), 0, 5, np.random.default_rng(0))
    assert (drawn[0] == 0).all()
    assert set(drawn[1].tolist()) <= {1, 3, 4}


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 1000))
def test_distinct_draws_do_not_repeat_and_stop_when_all_are_drawn(count: int, seed: int) -> None:
    unseen = UnseenItems(sequences_from_lists([[1, 6, 6]], STARTS, NAMES))
    items = unseen.draw_distinct(0, 1, count, np.random.default_rng(seed)).tolist()
    assert len(items) == len(set(items)) == min(count, 4)
    assert set(items) <= {5, 7, 8, 9}


def test_pairs_come_from_the_users_own_history_one_of_each_domain() -> None:
    sequences = sequences_from_lists([[1, 5, 2, 5, 3], [7], []], STARTS, NAMES)
    users = np.array([2, 0, 1])
    drawn = np.stack(
        [draw_pairs(sequences, users, np.random.default_rng(seed)) for seed in range(200)]
    )
    assert set(drawn[:, 1, 0].tolist()) == {1, 2, 3}
    assert set(drawn[:, 1, 1].tolist()) == {5}
    assert (drawn[:, 0] == 0).all()
    assert set(map(tuple, drawn[:, 2].tolist())) == {(0, 7)}
