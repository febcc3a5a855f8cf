"""Simple baselines: popularity, repeats, item neighbours, Markov chain, sequence rules.

Neighbour scorers store a weighted list of items per item; a score is the sum over the lists of the
newest events, weighted by recency except for item-kNN.

Dimensions: R prefixes, I_d items of a domain, V items, P pairs of items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data import co_occurrence
from model.data.co_occurrence import ItemPairs, blocks, heaviest, successions, user_cosines
from model.data.sequences import IntArray, Prefixes, Sequences, concatenate_ranges

MAX_NEIGHBOURS = 500


@dataclass(frozen=True)
class Popularity:
    """Number of training events of each item, equal for all users."""

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
    """Items of the user's history, newest first: the effect of repeats (METHOD 7.17)."""

    domain_starts: IntArray

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2].tolist()
        scores = np.zeros((len(prefixes), high - low), np.float32)
        events, rows = prefixes.events()
        items = prefixes.sequences.items[events]
        own = (items > low) & (items <= high)
        age = prefixes.stop[rows[own]] - events[own]
        np.maximum.at(scores, (rows[own], items[own] - low - 1), (1 / age).astype(np.float32))
        return torch.from_numpy(scores)


@dataclass(frozen=True)
class Neighbours:
    """Sum over the prefix of `decay ** age * weight(event's item -> candidate)`."""

    starts: IntArray  # (V + 2,) offsets of each item into the two lists below
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
    """Returns item-kNN: cosine of the user sets of two items."""
    training = sequences.training()
    return _neighbours(training, user_cosines(training), neighbours, decay=1.0)


def tf_idf_neighbours(sequences: Sequences, neighbours: int = MAX_NEIGHBOURS) -> Neighbours:
    """Returns TF-IDF item-kNN: users with many items count less."""
    training = sequences.training()
    pairs = user_cosines(training, inverse_frequency=True)
    return _neighbours(training, pairs, neighbours, decay=1.0)


def markov_chain(
    sequences: Sequences, decay: float = 0.5, reach: int = 3, neighbours: int = MAX_NEIGHBOURS
) -> Neighbours:
    """Returns a first-order Markov chain P(next | item), from pairs up to `reach` events apart.

    Pairs at distance n and events of age n are weighted by `decay ** n`.
    """
    return _rules(sequences.training(), reach, lambda n: decay ** (n - 1), neighbours, decay)


def sequence_rules(
    sequences: Sequences, window: int = 10, decay: float = 0.5, neighbours: int = MAX_NEIGHBOURS
) -> Neighbours:
    """Returns sequence rules ("SR", Kamehkhosh et al. 2017): pairs up to `window` events apart
    weighted by 1/distance, normalised per item; older events of a prefix decay by `decay`.

    Differs from `markov_chain` in its long window with slow decay over training pairs.
    """
    return _rules(sequences.training(), window, lambda n: 1 / n, neighbours, decay)


def _rules(
    training: Sequences,
    reach: int,
    weight: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    neighbours: int,
    decay: float,
) -> Neighbours:
    """Returns shares of the successors of each item, from pairs up to `reach` events apart with the
    weight of their distance."""
    left, right, distance = successions(training, reach)
    keys, cell = np.unique(left * (training.item_count + 1) + right, return_inverse=True)
    weights = np.bincount(cell, weight(distance.astype(np.float64)))
    left, right = np.divmod(keys, training.item_count + 1)
    outgoing = np.bincount(left, weights, minlength=training.item_count + 1)
    pairs = ItemPairs(left, right, weights / outgoing[left])
    return _neighbours(training, pairs, neighbours, decay)


def _neighbours(sequences: Sequences, pairs: ItemPairs, limit: int, decay: float) -> Neighbours:
    """Groups pairs by the left item and keeps the `limit` highest weights."""
    kept = heaviest(pairs, limit)
    starts = np.searchsorted(kept.left, np.arange(sequences.item_count + 2))
    weights = kept.weights.astype(np.float32)
    return Neighbours(starts, kept.right, weights, decay, sequences.domain_starts)
