"""Sampling of unseen items without rejection.

The unseen items of a domain are numbered `0 .. n - 1`; a uniform number is mapped to its item by
one binary search over all users' histories. The cost is equal for all users, every unseen item is
possible, including the domain's last (METHOD 7.7), and no seen item is returned. For a user who has
seen the whole domain the result is 0, the padding item.
"""

import numpy as np

from model.data.sequences import IntArray, Sequences, concatenate_ranges


class UnseenItems:
    """The complement of every user's history, domain by domain.

    Constructed from the training part of the histories.
    """

    def __init__(self, sequences: Sequences) -> None:
        self._starts = sequences.domain_starts
        self._stride = int(sequences.item_count) + 1
        seen = np.unique(sequences.event_users * self._stride + sequences.items)
        users, items = np.divmod(seen, self._stride)
        domains = sequences.domain_of(items)
        cells = np.arange(sequences.user_count * sequences.domain_count + 1)
        cell = users * sequences.domain_count + domains
        self._domain_count = sequences.domain_count
        self._cell_starts = np.searchsorted(cell, cells)  # (U * D + 1,) into the seen items
        rank_in_cell = np.arange(len(seen)) - self._cell_starts[cell]
        # The j-th seen item at position s (0-based in its domain) has s - j unseen items before it.
        unseen_before = items - 1 - self._starts[domains] - rank_in_cell
        self._keys = cell * self._stride + unseen_before  # never decreasing

    def count(self, users: IntArray, domain: int) -> IntArray:
        """Returns the number of unseen items of `domain` of each user, (n,)."""
        cell = users * self._domain_count + domain
        size = self._starts[domain + 1] - self._starts[domain]
        return size - (self._cell_starts[cell + 1] - self._cell_starts[cell])

    def item_at(self, users: IntArray, domain: int, place: IntArray) -> IntArray:
        """Returns the unseen item number `place` (from 0) of each user; arrays are broadcast."""
        users, place = np.broadcast_arrays(users, place)
        cell = users * self._domain_count + domain
        skipped = np.searchsorted(self._keys, cell * self._stride + place, side="right")
        return self._starts[domain] + 1 + place + skipped - self._cell_starts[cell]

    def draw(self, users: IntArray, domain: int, count: int, rng: np.random.Generator) -> IntArray:
        """Returns `count` uniform draws with replacement per user, (n, count); 0 without unseen
        items."""
        free = self.count(users, domain)[:, None]
        place = (rng.random((len(users), count)) * free).astype(np.int64)
        items = self.item_at(users[:, None], domain, np.minimum(place, np.maximum(free - 1, 0)))
        return np.where(free > 0, items, 0)

    def draw_distinct(
        self, user: int, domain: int, count: int, rng: np.random.Generator
    ) -> IntArray:
        """Returns up to `count` distinct items for one user."""
        free = int(self.count(np.array([user]), domain)[0])
        place = rng.choice(free, min(count, free), replace=False, shuffle=False)
        return self.item_at(np.array(user), domain, place)


def draw_pairs(sequences: Sequences, users: IntArray, rng: np.random.Generator) -> IntArray:
    """Returns one random item per user and domain, (n, D), from the user's history.

    0 without an event in the domain. Domains are sampled independently (METHOD 2).
    """
    events, rows = concatenate_ranges(sequences.offsets[users], sequences.offsets[users + 1])
    items = sequences.items[events]
    drawn = np.zeros((len(users), sequences.domain_count), np.int64)
    # Writing in random order keeps the last write of a cell: a uniform choice among its events.
    order = rng.permutation(len(items))
    drawn[rows[order], sequences.domain_of(items[order])] = items[order]
    return drawn
