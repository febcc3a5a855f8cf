"""Transition memory: counts of item transitions and co-occurrences, added to the threads' scores.

A network of this size does not retain rare pairs; counts do. For every item the memory stores the
items up to `memory_reach` events later in training, a pair at distance n counting 1/n; and, with
`memory_neighbours`, the items of each domain with the most common users regardless of order, with
their affinity. The newest events of a history select rows, and an item's score increases by `gain *
log(1 + sum / floor)` of its transition shares, and likewise of its affinities. The addition is zero
without counts, hence sparse, and the rest of the score remains one matrix product.

The network is trained without the memory. Counts come from training events, the weights of
`Reading` are fitted on validation events (`model/training/memory_fit.py`), so that no event
predicts itself.

Dimensions: K queries, L newest events, E stored pairs of those events, I_d items of a domain,
D domains, V items.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.data.batches import CrossDomainBatch, DomainQueries
from model.data.co_occurrence import ItemPairs, heaviest, shared_users, successions
from model.data.sequences import IntArray, Sequences, concatenate_ranges

# Initial weights, kept without validation events: shares of about a percent matter, and each older
# event counts half.
FADING, GAIN, FLOOR, PRIOR = math.log(2), 1.0, 0.01, 4.0
CO_GAIN, CO_FLOOR = 0.5, 1.0

# Affinity: common users ** 1.5 / (users of the event's item ** 0.5 * users of the other ** 0.3). A
# cosine (1, 0.5, 0.5) overweights single users and rare items (docs/log.md).
SHARED, MET, OTHER = 1.5, 0.5, 0.3

PAIRED_ITEMS = 50
"""Maximum newest items per user that are paired; pairs grow quadratically."""


@dataclass(frozen=True)
class Evidence:
    """Memory rows of the newest events of K queries, for the items of one domain."""

    domain: int
    shape: tuple[int, int]  # (K, I_d)
    cells: Tensor  # (E,) query * I_d + column of the item
    events: Tensor  # (E,) query * L + index of the event
    counts: Tensor  # (E,)
    affinities: Tensor | None  # (E,) None without co-occurrences
    totals: Tensor  # (K, L) sum of the whole row within the domain
    is_own: Tensor  # (K, L) the event is in the target domain
    exists: Tensor  # (K, L) there is an event


@dataclass(frozen=True)
class SparseAddition:
    """Sparse additions to scores: n cells, by query and column."""

    queries: Tensor  # (n,) ascending
    columns: Tensor  # (n,) ascending within a query
    values: Tensor  # (n,) of either sign
    size: int  # I_d

    def added_to(self, scores: Tensor) -> Tensor:
        """Adds to `scores` (K, I_d) in place; returns them."""
        cells = self.queries * self.size + self.columns
        scores.view(-1).index_add_(0, cells, self.values)  # each cell once
        return scores

    def at(self, columns: IntArray) -> Tensor:
        """Returns the additions at `columns` (K, C); 0 without counts."""
        rows = np.arange(len(columns))[:, None] * self.size
        wanted = torch.from_numpy(rows + np.maximum(columns, 0)).to(self.values.device)
        cells = self.queries * self.size + self.columns
        if not len(cells):
            return self.values.new_zeros(wanted.shape)
        place = torch.searchsorted(cells, wanted).clamp_max(len(cells) - 1)
        return torch.where(cells[place] == wanted, self.values[place], 0.0)


class TransitionMemory(nn.Module):
    """Pair counts and their weights, all buffers without gradient."""

    def __init__(self, domain_starts: IntArray, config: ModelConfig, entries: int = 0) -> None:
        super().__init__()
        self.domain_starts = np.asarray(domain_starts, np.int64)
        self.newest_events, self.reach = config.memory_events, config.memory_reach
        self.neighbours = config.memory_neighbours
        rows, domains = int(self.domain_starts[-1]) + 1, len(self.domain_starts) - 1
        self.row_starts: Tensor
        self.items: Tensor
        self.counts: Tensor
        self.totals: Tensor
        self.fading: Tensor
        self.other: Tensor
        self.prior: Tensor
        self.floor: Tensor
        self.gain: Tensor
        self.affinities: Tensor | None
        self.co_fading: Tensor
        self.co_other: Tensor
        self.co_floor: Tensor
        self.co_gain: Tensor
        self.register_buffer("row_starts", torch.zeros(rows + 1, dtype=torch.int64))
        self.register_buffer("items", torch.zeros(entries, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("totals", torch.zeros(rows, domains))
        # Events of the target domain and of other domains have separate decays; the latter also a
        # weight.
        self.register_buffer("fading", torch.full((2,), FADING))
        self.register_buffer("other", torch.zeros(1))
        self.register_buffer("prior", torch.full((domains,), math.log(PRIOR)))
        self.register_buffer("floor", torch.full((domains,), math.log(FLOOR)))
        self.register_buffer("gain", torch.full((domains,), GAIN))
        # Absent without neighbours, so that older weights load.
        self.register_buffer("affinities", torch.zeros(entries) if self.neighbours else None)
        if self.neighbours:
            self.register_buffer("co_fading", torch.zeros(2))
            self.register_buffer("co_other", torch.zeros(1))
            self.register_buffer("co_floor", torch.full((domains,), math.log(CO_FLOOR)))
            self.register_buffer("co_gain", torch.full((domains,), CO_GAIN))

    @property
    def is_blank(self) -> bool:
        """Whether the memory has no counts."""
        return not len(self.items)

    def learn(self, training: Sequences) -> None:
        """Recounts all events of `training`."""
        earlier, later, distance = successions(training, self.reach)
        weights = 1.0 / distance
        stride, domains = training.item_count + 1, training.domain_count
        row = earlier * domains + training.domain_of(later)
        totals = np.bincount(row, weights, stride * domains).reshape(stride, domains)
        near, affinities = self._neighbours_of(training)
        keys, cell = np.unique(
            np.concatenate((earlier * stride + later, near)), return_inverse=True
        )
        counts = np.bincount(cell[: len(earlier)], weights, len(keys))
        self._take(
            np.searchsorted(keys, np.arange(stride + 1) * stride),
            keys % stride,
            counts,
            np.bincount(cell[len(earlier) :], affinities, len(keys)),
            totals,
        )

    def drop_co_occurrences(self, training: Sequences) -> None:
        """Removes co-occurrences permanently."""
        self.neighbours = 0
        self.co_gain.zero_()
        self.learn(training)

    def with_catalogue(self, domain_starts: IntArray, sources: IntArray) -> TransitionMemory:
        """Returns the pairs with the item indices of another catalogue (`new_items.py`).

        `sources` (|V'| + 1,): old item whose pairs each item inherits; 0: none. Several items may
        share one source.
        """
        stride, old_starts = int(domain_starts[-1]) + 1, self.row_starts.cpu().numpy()
        kept = np.flatnonzero(sources)
        entries, row = concatenate_ranges(old_starts[sources[kept]], old_starts[sources[kept] + 1])
        # A successor maps to one new index, several, or none.
        heirs = kept[np.argsort(sources[kept], kind="stable")]
        items = self.items.cpu().numpy()[entries]
        first, last = (np.searchsorted(sources[heirs], items, side) for side in ("left", "right"))
        place, entry = concatenate_ranges(first, last)
        rows, counts = kept[row[entry]], self.counts.cpu().numpy()[entries[entry]]
        totals = np.zeros((stride, self.totals.shape[1]), np.float32)
        totals[kept] = self.totals.cpu().numpy()[sources[kept]]
        affinities = (
            None if self.affinities is None else self.affinities.cpu().numpy()[entries[entry]]
        )
        grown = copy.deepcopy(self)
        grown.domain_starts = np.asarray(domain_starts, np.int64)
        starts = np.searchsorted(rows, np.arange(stride + 1))
        grown._take(starts, heirs[place], counts, affinities, totals)
        return grown

    def newest(self, batch: CrossDomainBatch, queries: DomainQueries) -> Tensor:
        """Returns the last L items of each query, newest first, (K, L); padded with 0."""
        width = batch.mixed_items.shape[1]
        age = torch.arange(self.newest_events, device=batch.mixed_items.device)
        column = (queries.mixed_position % width)[:, None] - age
        exists = (queries.mixed_position >= 0)[:, None] & (column >= 0)
        found = batch.mixed_items[queries.rows[:, None], column.clamp_min(0)]
        return torch.where(exists, found, 0)

    def look_up(self, newest: Tensor, domain: int) -> Evidence:
        """Returns the rows of `newest` (K, L), restricted to `domain`."""
        low, high = self.domain_starts[domain : domain + 2].tolist()
        items = newest.flatten()
        begin = self.row_starts[items]
        lengths = self.row_starts[items + 1] - begin
        event = torch.repeat_interleave(lengths)  # `concatenate_ranges`, on the memory's device
        shift = begin - (lengths.cumsum(0) - lengths)  # from row index to its entries
        place = torch.arange(len(event), device=event.device) + shift[event]
        later = self.items[place]
        inside = (later > low) & (later <= high)
        place, event, column = place[inside], event[inside], later[inside].long() - low - 1
        return Evidence(
            domain,
            (len(newest), high - low),
            event // self.newest_events * (high - low) + column,
            event,
            self.counts[place],
            None if self.affinities is None else self.affinities[place],
            self.totals[newest, domain],
            (newest > low) & (newest <= high),
            newest > 0,
        )

    def forward(self, evidence: Evidence) -> Tensor:
        """Returns the additions to scores, (K, I_d)."""
        queries, size = evidence.shape
        return self._added(evidence, evidence.cells, queries * size).view(queries, size)

    def sparse(self, evidence: Evidence) -> SparseAddition:
        """Returns the additions in sparse form, for large catalogues."""
        cells, place = torch.unique(evidence.cells, return_inverse=True)
        size = evidence.shape[1]
        values = self._added(evidence, place, len(cells))
        return SparseAddition(cells // size, cells % size, values, size)

    def _added(self, evidence: Evidence, place: Tensor, count: int) -> Tensor:
        """Returns the additions to `count` cells; `place` (E,) is the cell of each stored pair."""
        domain = evidence.domain
        weight = self._weights(evidence, self.fading, self.other)
        weight = weight / (evidence.totals + self.prior[domain].exp())
        share = _summed(weight.flatten()[evidence.events] * evidence.counts, place, count)
        added = self.gain[domain] * torch.log1p(share / self.floor[domain].exp())
        if evidence.affinities is None:
            return added
        weight = self._weights(evidence, self.co_fading, self.co_other)
        affinity = weight.flatten()[evidence.events] * evidence.affinities
        affinity = _summed(affinity, place, count) / self.co_floor[domain].exp()
        return added + self.co_gain[domain] * torch.log1p(affinity)

    def _weights(self, evidence: Evidence, fading: Tensor, other: Tensor) -> Tensor:
        """Returns the weight of each of the newest events (K, L), by domain and age."""
        age = torch.arange(self.newest_events, device=self.gain.device)
        own, others = -fading[0] * age, other - fading[1] * age
        return torch.where(evidence.is_own, own, others).exp() * evidence.exists

    def _neighbours_of(self, training: Sequences) -> tuple[IntArray, np.ndarray]:
        """Returns pairs `left * (items + 1) + right` and affinities, the highest per left item and
        domain of the right item."""
        if not self.neighbours:
            return np.zeros(0, np.int64), np.zeros(0)
        (left, right, shared), own = shared_users(
            training, inverse_frequency=True, newest=PAIRED_ITEMS
        )
        pairs = ItemPairs(left, right, shared**SHARED / (own[left] ** MET * own[right] ** OTHER))
        pairs = heaviest(pairs, self.neighbours, training.domain_of(right))
        return pairs.left * (training.item_count + 1) + pairs.right, pairs.weights

    def _take(
        self,
        row_starts: IntArray,
        items: IntArray,
        counts: np.ndarray,
        affinities: np.ndarray | None,
        totals: np.ndarray,
    ) -> None:
        device = self.totals.device
        self.row_starts = torch.from_numpy(row_starts).to(device)
        self.items = torch.from_numpy(items.astype(np.int32)).to(device)
        self.counts = torch.from_numpy(counts.astype(np.float32)).to(device)
        self.totals = torch.from_numpy(totals.astype(np.float32)).to(device)
        if self.affinities is not None and affinities is not None:
            self.affinities = torch.from_numpy(affinities.astype(np.float32)).to(device)


def _summed(values: Tensor, place: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add(0, place, values)
