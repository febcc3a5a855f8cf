"""Co-occurrence of items: pairs and their numbers of common users.

Dimensions: U users, N distinct (user, item) pairs, P pairs of items.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray, Sequences, concatenate_ranges

NEWEST_ITEMS = 200
"""Maximum newest items per user that are paired. Pairs grow quadratically: 20,000 events would make
2e8 pairs."""

BLOCK_PAIRS = 4_000_000
"""Pairs or entries per block: 200 MB with intermediate arrays."""


class ItemPairs(NamedTuple):
    """Weighted pairs of items, in both directions, ordered by the left item."""

    left: IntArray  # (P,)
    right: IntArray  # (P,)
    weights: NDArray[np.float64]  # (P,)


class SharedUsers(NamedTuple):
    """Numbers of users per item and per pair of items."""

    pairs: ItemPairs
    own: NDArray[np.float64]  # (items + 1,)


def shared_users(
    sequences: Sequences, *, inverse_frequency: bool = False, newest: int | None = None
) -> SharedUsers:
    """Returns the numbers of users with an item, or with two items, among their `newest` items
    (default `NEWEST_ITEMS`).

    Counts and times of a user's events are ignored. With ``inverse_frequency`` users with many
    items count less (TF-IDF with users as terms): by the square of log(1 + items / own items),
    normalised to a mean of 1 over a user's items.
    """
    base = sequences.item_count + 1
    users, items = _newest_distinct(sequences, NEWEST_ITEMS if newest is None else newest)
    weight_of_user = np.ones(sequences.user_count)
    if inverse_frequency and len(users):
        own = np.bincount(users, minlength=sequences.user_count)
        weight_of_user = np.log1p(sequences.item_count / np.maximum(own, 1)) ** 2
        weight_of_user /= weight_of_user[users].mean()
    keys, sums = _pair_sums(users, items, base, weight_of_user)
    left, right = np.divmod(keys, base)
    both = np.concatenate((left, right)), np.concatenate((right, left))
    order = np.argsort(both[0], kind="stable")
    return SharedUsers(
        ItemPairs(both[0][order], both[1][order], np.tile(sums, 2)[order]),
        np.bincount(items, weight_of_user[users], minlength=base).astype(np.float64),
    )


def user_cosines(sequences: Sequences, *, inverse_frequency: bool = False) -> ItemPairs:
    """Returns cosines of the user sets of two items; ``inverse_frequency`` as in `shared_users`."""
    (left, right, shared), own = shared_users(sequences, inverse_frequency=inverse_frequency)
    return ItemPairs(left, right, shared / np.sqrt(own[left] * own[right]))


def successions(sequences: Sequences, reach: int) -> tuple[IntArray, IntArray, IntArray]:
    """Returns earlier item, later item and distance of all pairs of one user up to `reach` events
    apart."""
    events = np.arange(len(sequences.items))
    ends = sequences.offsets[1:][sequences.event_users]
    later, earlier = concatenate_ranges(events + 1, np.minimum(events + 1 + reach, ends))
    return sequences.items[earlier], sequences.items[later], later - earlier


def heaviest(pairs: ItemPairs, limit: int, groups: IntArray | None = None) -> ItemPairs:
    """Returns the `limit` pairs of highest weight per left item, descending; with ``groups`` (P,)
    per left item and group."""
    order = (
        np.lexsort((-pairs.weights, pairs.left))
        if groups is None
        else np.lexsort((-pairs.weights, groups, pairs.left))
    )
    left = pairs.left[order]
    begins = np.ones(len(left), bool)
    begins[1:] = left[1:] != left[:-1]
    if groups is not None:
        begins[1:] |= groups[order][1:] != groups[order][:-1]
    places = np.arange(len(left))
    kept = order[places - np.maximum.accumulate(np.where(begins, places, 0)) < limit]
    return ItemPairs(pairs.left[kept], pairs.right[kept], pairs.weights[kept])


def blocks(sizes: IntArray) -> Iterator[slice]:
    """Yields ranges of rows with a total size of about `BLOCK_PAIRS` or less."""
    numbers = np.cumsum(sizes) // BLOCK_PAIRS
    borders = np.flatnonzero(np.diff(numbers)) + 1
    edges = [0, *borders.tolist(), len(sizes)] if len(sizes) else []
    for begin, end in pairwise(edges):
        yield slice(begin, end)


def _newest_distinct(sequences: Sequences, newest: int) -> tuple[IntArray, IntArray]:
    """Returns user and item of each user's `newest` distinct items, sorted by both."""
    keys = sequences.event_users * (sequences.item_count + 1) + sequences.items
    keys, from_end = np.unique(keys[::-1], return_index=True)  # the newest event of each
    users, items = np.divmod(keys, sequences.item_count + 1)
    order = np.lexsort((from_end, users))  # newest first
    age = np.empty_like(order)
    age[order] = np.arange(len(order)) - np.searchsorted(users, users[order])
    return users[age < newest], items[age < newest]


def _pair_sums(
    users: IntArray, items: IntArray, base: int, weight_of_user: NDArray[np.float64]
) -> tuple[IntArray, NDArray[np.float64]]:
    """Returns pairs of distinct items of one user, (P,) as `smaller * base + larger`, ascending,
    and the sum of user weights of each."""
    places = np.arange(len(users))
    ends = np.searchsorted(users, users, side="right")
    merged: list[tuple[IntArray, NDArray[np.float64]]] = []
    for block in blocks(ends - 1 - places):
        larger, smaller = concatenate_ranges(places[block] + 1, ends[block])
        pairs = items[block][smaller] * base + items[larger]
        merged.append(_summed(pairs, weight_of_user[users[block][smaller]]))
        # Blocks of similar size are merged, so that each sum is copied a few times, not once per
        # block.
        while len(merged) > 1 and len(merged[-1][0]) * 2 > len(merged[-2][0]):
            merged.append(_together(merged.pop(), merged.pop()))
    while len(merged) > 1:
        merged.append(_together(merged.pop(), merged.pop()))
    return merged[0] if merged else (np.zeros(0, np.int64), np.zeros(0))


def _together(
    one: tuple[IntArray, NDArray[np.float64]], other: tuple[IntArray, NDArray[np.float64]]
) -> tuple[IntArray, NDArray[np.float64]]:
    return _summed(np.concatenate((one[0], other[0])), np.concatenate((one[1], other[1])))


def _summed(pairs: IntArray, weights: NDArray[np.float64]) -> tuple[IntArray, NDArray[np.float64]]:
    keys, cell = np.unique(pairs, return_inverse=True)
    return keys, np.bincount(cell, weights, len(keys)).astype(np.float64)
