"""Users of several domains who lose their link: nobody's events change, only whose they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.overlap import has_own_domain_history, overlapping_users, unlink
from model.data.sequences import TEST, Sequences, sequences_from_lists

STARTS, NAMES = (0, 4, 9), ("one", "two")
histories = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=12)


def made(lists: list[list[int]]) -> Sequences:
    return sequences_from_lists(lists, STARTS, NAMES, held_out=2)


def test_a_user_without_the_link_becomes_one_user_a_domain() -> None:
    sequences = made([[1, 5, 2, 6, 3], [4, 4, 4]])
    cut = unlink(sequences, 0.0, seed=0)
    assert cut.sequences.items.tolist() == [1, 2, 3, 5, 6, 4, 4, 4]
    assert cut.sequences.offsets.tolist() == [0, 3, 5, 8]
    assert cut.sequences.split.tolist() == [0, 0, 2, 0, 1, 0, 1, 2]
    assert cut.original_users.tolist() == [0, 0, 1]


@settings(max_examples=40, deadline=None)
@given(lists=histories, share=st.sampled_from([0.0, 0.3, 0.5, 1.0]), seed=st.integers(0, 5))
def test_events_their_splits_and_the_order_within_a_domain_stay(
    lists: list[list[int]], share: float, seed: int
) -> None:
    sequences = made(lists)
    cut = unlink(sequences, share, seed)
    for user in range(sequences.user_count):
        for domain in range(2):
            whole = own_events(sequences, np.array([user]), domain)
            parts = own_events(cut.sequences, np.flatnonzero(cut.original_users == user), domain)
            assert parts == whole


def own_events(sequences: Sequences, users: np.ndarray, domain: int) -> list[tuple[int, int]]:
    own = np.isin(sequences.event_users, users) & (sequences.domain_of(sequences.items) == domain)
    return list(zip(sequences.items[own].tolist(), sequences.split[own].tolist(), strict=True))


@pytest.mark.parametrize(("share", "users"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_the_share_says_how_many_users_keep_their_link(share: float, users: int) -> None:
    sequences = made([[1, 5, 2]] * 8 + [[1, 2, 3]] * 5)
    cut = unlink(sequences, share, seed=3)
    assert len(overlapping_users(cut.sequences)) == users


def test_who_is_linked_at_a_small_share_is_linked_at_a_larger_one() -> None:
    sequences = made([[1, 5, 2]] * 20)

    def linked(share: float) -> set[int]:
        cut = unlink(sequences, share, seed=1)
        return set(cut.original_users[overlapping_users(cut.sequences)].tolist())

    assert linked(0.2) < linked(0.5) < linked(1.0)


@settings(max_examples=40, deadline=None)
@given(lists=histories, seed=st.integers(0, 3))
def test_every_share_is_measured_on_the_same_events(lists: list[list[int]], seed: int) -> None:
    sequences = made(lists)

    def asked(share: float) -> list[tuple[int, int]]:
        cut = unlink(sequences, share, seed)
        prefixes = cut.sequences.prefixes_of_split(TEST)
        prefixes = prefixes.select(np.flatnonzero(has_own_domain_history(prefixes)))
        users = cut.original_users[prefixes.users].tolist()
        return sorted(zip(users, prefixes.targets.tolist(), strict=True))

    assert asked(0.0) == asked(0.5) == asked(1.0)


def test_keeping_every_link_changes_nothing() -> None:
    sequences = made([[1, 5, 2, 6, 3], [4, 4, 4], [9]])
    cut = unlink(sequences, 1.0, seed=0).sequences
    assert cut.items.tolist() == sequences.items.tolist()
    assert cut.offsets.tolist() == sequences.offsets.tolist()
