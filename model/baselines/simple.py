"""What a model must beat: popularity, repeats, item neighbours, a Markov chain, sequence rules; on
the same ranking harness.

The neighbour scorers keep, for each item, a short weighted list of items; a prefix's score adds up
the lists of its newest events, for all but item-kNN the newest weighing most.

Dimensions: R prefixes, I_d items of a domain, V items, P pairs of items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.sequences import IntArray, Prefixes, Sequences, concatenate_ranges

MAX_NEIGHBOURS = 500

KNN_HISTORY = 200
"""A user's newest items that are paired, and a prefix's newest events that are scored.

Pairs grow with the square of a history: 20,000 events would make 2e8 of them, more than the
memory of most machines. Where weights halve from event to event, older ones are 0 in float32.
"""

BLOCK_PAIRS = 4_000_000
"""Pairs or entries of lists held at a time: 200 MB with the arrays made from them."""


@dataclass(frozen=True)
class Popularity:
    """How often each item occurs in training, the same for everyone."""

    counts: NDArray[np.float32]  # (V + 1,)
    domain_starts: IntArray

    @classmethod
    def fit(cls, sequences: Sequences) -> Popularity:
        items = sequences.training().items
        counts = np.bincount(items, minlength=sequences.item_count + 1).astype(np.float32)
        return cls(counts, sequences.domain_starts)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2]
        return torch.from_numpy(self.counts[low + 1 : high + 1]).expand(len(prefixes), -1)


@dataclass(frozen=True)
class History:
    """What a user has met before, newest first: shows how far repeats alone go (METHOD 7.17)."""

    domain_starts: IntArray

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2].tolist()
        scores = np.zeros((len(prefixes), high - low), np.float32)
        events, rows = concatenate_ranges(prefixes.start, prefixes.stop)
        items = prefixes.sequences.items[events]
        own = (items > low) & (items <= high)
        age = prefixes.stop[rows[own]] - events[own]
        np.maximum.at(scores, (rows[own], items[own] - low - 1), (1 / age).astype(np.float32))
        return torch.from_numpy(scores)


@dataclass(frozen=True)
class Neighbours:
    """Sum over the prefix of `decay ** age * weight(event's item -> candidate)`."""

    starts: IntArray  # (V + 2,) each item's part of the two lists below
    items: IntArray
    weights: NDArray[np.float32]
    decay: float
    domain_starts: IntArray

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2].tolist()
        newest = np.maximum(prefixes.start, prefixes.stop - KNN_HISTORY)
        events, rows = concatenate_ranges(newest, prefixes.stop)
        sources = prefixes.sequences.items[events]
        first, last = self.starts[sources], self.starts[sources + 1]
        faded = self.decay ** (prefixes.stop[rows] - 1 - events)
        total = np.zeros(len(prefixes) * (high - low))
        for block in _blocks(last - first):
            entries, event = concatenate_ranges(first[block], last[block])
            own = (self.items[entries] > low) & (self.items[entries] <= high)
            entries, event = entries[own], event[own]
            cells = rows[block][event] * (high - low) + self.items[entries] - low - 1
            total += np.bincount(cells, self.weights[entries] * faded[block][event], len(total))
        return torch.from_numpy(total.reshape(len(prefixes), high - low).astype(np.float32))


def item_neighbours(sequences: Sequences, neighbours: int = MAX_NEIGHBOURS) -> Neighbours:
    """Item-kNN: cosine of the sets of users who met two items among their newest `KNN_HISTORY`.

    How often a user met an item, and when, plays no part.
    """
    training = sequences.training()
    users, items = _newest_distinct(training)
    keys, counts = _pair_counts(users, items, training.item_count + 1)
    left, right = np.divmod(keys, training.item_count + 1)
    users_of = np.bincount(items, minlength=training.item_count + 1)
    weights = counts / np.sqrt(users_of[left] * users_of[right])
    both = np.concatenate((left, right)), np.concatenate((right, left))
    return _neighbours(training, *both, np.tile(weights, 2), neighbours, decay=1.0)


def markov_chain(
    sequences: Sequences, decay: float = 0.5, reach: int = 3, neighbours: int = MAX_NEIGHBOURS
) -> Neighbours:
    """P(next | item), first order, from pairs up to `reach` events apart, the nearer the heavier.

    The distance of a pair in training and the age of an event in the prefix weigh `decay ** n`.
    """
    training = sequences.training()
    left, right, distance = _pairs(training, reach)
    keys, cell = np.unique(left * (training.item_count + 1) + right, return_inverse=True)
    weights = np.bincount(cell, decay ** (distance - 1.0))
    left, right = np.divmod(keys, training.item_count + 1)
    outgoing = np.bincount(left, weights, minlength=training.item_count + 1)
    return _neighbours(training, left, right, weights / outgoing[left], neighbours, decay)


def sequence_rules(
    sequences: Sequences, window: int = 10, decay: float = 0.5, neighbours: int = MAX_NEIGHBOURS
) -> Neighbours:
    """Rules "after i comes j", a pair up to `window` events apart weighing 1/distance (Kamehkhosh
    et al. 2017, "SR"), as shares of all that followed i; a prefix's older events fade by `decay`.

    Differs from `markov_chain` in its long, slowly falling window over training pairs.
    """
    training = sequences.training()
    left, right, distance = _pairs(training, window)
    keys, cell = np.unique(left * (training.item_count + 1) + right, return_inverse=True)
    weights = np.bincount(cell, 1.0 / distance)
    left, right = np.divmod(keys, training.item_count + 1)
    outgoing = np.bincount(left, weights, minlength=training.item_count + 1)
    return _neighbours(training, left, right, weights / outgoing[left], neighbours, decay)


def _newest_distinct(sequences: Sequences) -> tuple[IntArray, IntArray]:
    """User and item of each user's newest `KNN_HISTORY` distinct items, sorted by both."""
    keys = sequences.event_users * (sequences.item_count + 1) + sequences.items
    keys, from_end = np.unique(keys[::-1], return_index=True)  # the newest event of each
    users, items = np.divmod(keys, sequences.item_count + 1)
    order = np.lexsort((from_end, users))  # newest first
    age = np.empty_like(order)
    age[order] = np.arange(len(order)) - np.searchsorted(users, users[order])
    return users[age < KNN_HISTORY], items[age < KNN_HISTORY]


def _pair_counts(users: IntArray, items: IntArray, base: int) -> tuple[IntArray, IntArray]:
    """The pairs of different items of one user, (P,) as `smaller * base + larger`, ascending, and
    the users of each."""
    places = np.arange(len(users))
    ends = np.searchsorted(users, users, side="right")
    merged: list[tuple[IntArray, IntArray]] = []
    for block in _blocks(ends - 1 - places):
        larger, smaller = concatenate_ranges(places[block] + 1, ends[block])
        merged.append(np.unique(items[block][smaller] * base + items[larger], return_counts=True))
        # Like is merged with like: each count is then copied a few times, not once a block.
        while len(merged) > 1 and len(merged[-1][0]) * 2 > len(merged[-2][0]):
            merged.append(_summed(merged.pop(), merged.pop()))
    while len(merged) > 1:
        merged.append(_summed(merged.pop(), merged.pop()))
    return merged[0] if merged else (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _summed(
    one: tuple[IntArray, IntArray], other: tuple[IntArray, IntArray]
) -> tuple[IntArray, IntArray]:
    keys, cell = np.unique(np.concatenate((one[0], other[0])), return_inverse=True)
    counts = np.concatenate((one[1], other[1]))
    return keys, np.bincount(cell, counts, len(keys)).astype(np.int64)


def _blocks(sizes: IntArray) -> Iterator[slice]:
    """Runs of rows whose sizes add up to about `BLOCK_PAIRS` or less."""
    numbers = np.cumsum(sizes) // BLOCK_PAIRS
    borders = np.flatnonzero(np.diff(numbers)) + 1
    edges = [0, *borders.tolist(), len(sizes)] if len(sizes) else []
    for begin, end in pairwise(edges):
        yield slice(begin, end)


def _pairs(sequences: Sequences, reach: int) -> tuple[IntArray, IntArray, IntArray]:
    """Earlier item, later item and distance of all pairs of one user up to `reach` events apart."""
    events = np.arange(len(sequences.items))
    ends = sequences.offsets[1:][sequences.event_users]
    later, earlier = concatenate_ranges(events + 1, np.minimum(events + 1 + reach, ends))
    return sequences.items[earlier], sequences.items[later], later - earlier


def _neighbours(
    sequences: Sequences,
    left: IntArray,
    right: IntArray,
    weights: NDArray[np.float64],
    limit: int,
    decay: float,
) -> Neighbours:
    """Group by the left item and keep its `limit` heaviest."""
    order = np.lexsort((-weights, left))
    left, right, weights = left[order], right[order], weights[order]
    starts = np.searchsorted(left, np.arange(sequences.item_count + 2))
    keep = np.arange(len(left)) - starts[left] < limit
    starts = np.searchsorted(left[keep], np.arange(sequences.item_count + 2))
    return Neighbours(
        starts, right[keep], weights[keep].astype(np.float32), decay, sequences.domain_starts
    )
