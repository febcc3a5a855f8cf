"""What a model must beat: popularity, repeats, item neighbours, a Markov chain, sequence rules; on
the same ranking harness.

The neighbour scorers keep, for each item, a short weighted list of items; a prefix's score adds up
the lists of its newest events, for all but item-kNN the newest weighing most.

Dimensions: R prefixes, I_d items of a domain, V items, P pairs of items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data import co_occurrence
from model.data.co_occurrence import ItemPairs, blocks, heaviest, user_cosines
from model.data.sequences import IntArray, Prefixes, Sequences, concatenate_ranges

MAX_NEIGHBOURS = 500


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
        newest = np.maximum(prefixes.start, prefixes.stop - co_occurrence.NEWEST_ITEMS)
        events, rows = concatenate_ranges(newest, prefixes.stop)
        sources = prefixes.sequences.items[events]
        first, last = self.starts[sources], self.starts[sources + 1]
        faded = self.decay ** (prefixes.stop[rows] - 1 - events)
        total = np.zeros(len(prefixes) * (high - low))
        for block in blocks(last - first):
            entries, event = concatenate_ranges(first[block], last[block])
            own = (self.items[entries] > low) & (self.items[entries] <= high)
            entries, event = entries[own], event[own]
            cells = rows[block][event] * (high - low) + self.items[entries] - low - 1
            total += np.bincount(cells, self.weights[entries] * faded[block][event], len(total))
        return torch.from_numpy(total.reshape(len(prefixes), high - low).astype(np.float32))


def item_neighbours(sequences: Sequences, neighbours: int = MAX_NEIGHBOURS) -> Neighbours:
    """Item-kNN: cosine of the sets of users who met two items, whatever the order."""
    training = sequences.training()
    return _neighbours(training, user_cosines(training), neighbours, decay=1.0)


def tf_idf_neighbours(sequences: Sequences, neighbours: int = MAX_NEIGHBOURS) -> Neighbours:
    """Item-kNN by TF-IDF: the same, users who met many items counting less."""
    training = sequences.training()
    pairs = user_cosines(training, inverse_frequency=True)
    return _neighbours(training, pairs, neighbours, decay=1.0)


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
    pairs = ItemPairs(left, right, weights / outgoing[left])
    return _neighbours(training, pairs, neighbours, decay)


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
    pairs = ItemPairs(left, right, weights / outgoing[left])
    return _neighbours(training, pairs, neighbours, decay)


def _pairs(sequences: Sequences, reach: int) -> tuple[IntArray, IntArray, IntArray]:
    """Earlier item, later item and distance of all pairs of one user up to `reach` events apart."""
    events = np.arange(len(sequences.items))
    ends = sequences.offsets[1:][sequences.event_users]
    later, earlier = concatenate_ranges(events + 1, np.minimum(events + 1 + reach, ends))
    return sequences.items[earlier], sequences.items[later], later - earlier


def _neighbours(sequences: Sequences, pairs: ItemPairs, limit: int, decay: float) -> Neighbours:
    """Group by the left item and keep its `limit` heaviest."""
    kept = heaviest(pairs, limit)
    starts = np.searchsorted(kept.left, np.arange(sequences.item_count + 2))
    weights = kept.weights.astype(np.float32)
    return Neighbours(starts, kept.right, weights, decay, sequences.domain_starts)
