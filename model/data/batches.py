"""Conversion of CSR histories to padded tensors, vectorised over the users of a batch.

Padding is on the right. With a causal mask no event attends to padding, so scores do not depend on
the other users of a batch or the maximum length (METHOD 7.13).

Dimensions: B users, T positions, K queries (positions with a next item to predict).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.data.sequences import IntArray, Prefixes, Sequences, concatenate_ranges


@dataclass(frozen=True)
class DomainQueries:
    """The K queries of a batch whose target is in this domain.

    Positions are flat indices into the (B * T) states of a thread; -1 without earlier events.
    """

    rows: Tensor  # (K,) row of the batch
    mixed_position: Tensor  # (K,)
    local_position: Tensor  # (K,)
    targets: Tensor  # (K,) global item index, 0 if unknown

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class CrossDomainBatch:
    """B histories: the mixed sequence, its part in each domain, and the queries."""

    users: Tensor  # (B,) always on the CPU, where profiles are looked up
    mixed_items: Tensor  # (B, T)
    local_items: tuple[Tensor, ...]  # per domain (B_d, T_d), users with events there only
    last_position: Tensor  # (B,) flat index of each user's newest mixed position, -1 if none
    queries: tuple[DomainQueries, ...]  # per domain

    def to(self, device: torch.device) -> CrossDomainBatch:
        return CrossDomainBatch(
            self.users,
            moved(self.mixed_items, device),
            tuple(moved(items, device) for items in self.local_items),
            moved(self.last_position, device),
            tuple(
                DomainQueries(
                    moved(q.rows, device),
                    moved(q.mixed_position, device),
                    moved(q.local_position, device),
                    moved(q.targets, device),
                )
                for q in self.queries
            ),
        )


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on `device`; copies to a GPU are asynchronous."""
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def training_batch(
    sequences: Sequences,
    users: IntArray,
    max_length: int,
) -> CrossDomainBatch:
    """Returns a batch in which every event except a user's first is a target, predicted from
    earlier events.

    Histories are truncated to the newest `max_length + 1` events; all threads share this window.
    """
    stop = sequences.offsets[users + 1]
    start = np.maximum(sequences.offsets[users], stop - max_length - 1)
    window = _Window(sequences, start, np.maximum(stop - 1, start))
    following = sequences.items[window.events + 1]
    inputs = np.arange(1, len(window.events) + 1)
    queries = _Queries(window.rows, inputs, following, sequences.domain_of(following))
    return window.batch(users, queries)


def prefix_batch(
    prefixes: Prefixes, max_length: int, domain: int | Sequence[int] | None = None
) -> CrossDomainBatch:
    """Returns a batch with one query per row, after the whole prefix; its domain is `domain` or the
    target's.

    With several domains, each row has a query per domain.
    """
    start = np.maximum(prefixes.start, prefixes.stop - max_length)
    window = _Window(prefixes.sequences, start, prefixes.stop)
    domains = (
        prefixes.sequences.domain_of(prefixes.targets)[None]
        if domain is None
        else np.tile(np.atleast_1d(domain)[:, None], len(prefixes))
    )
    return window.batch(prefixes.users, window.query_last(prefixes.targets, domains))


def bucketed_users(
    sequences: Sequences, batch_size: int, rng: np.random.Generator
) -> Iterator[IntArray]:
    """Yields users with at least one target, in shuffled batches of similar length.

    Lengths are jittered by up to one event before sorting, so that batches differ between epochs
    with little padding.
    """
    lengths = np.diff(sequences.offsets)
    users = _users_with_a_target(sequences)
    users = users[np.argsort(lengths[users] + rng.random(len(users)), kind="stable")]
    batches = np.array_split(users, np.arange(batch_size, len(users), batch_size))
    for index in rng.permutation(len(batches)):
        if len(batches[index]):
            yield batches[index]


def batch_count(sequences: Sequences, batch_size: int) -> int:
    """Returns the number of batches of `bucketed_users`."""
    return -(-len(_users_with_a_target(sequences)) // batch_size)


def _users_with_a_target(sequences: Sequences) -> IntArray:
    return np.flatnonzero(np.diff(sequences.offsets) >= 2)


@dataclass(frozen=True)
class _Queries:
    rows: IntArray
    inputs: IntArray  # number of input events of the window, over all rows, before the query
    targets: IntArray
    domains: IntArray


class _Window:
    """The input events `start[b]:stop[b]` of B rows, flattened row by row."""

    def __init__(self, sequences: Sequences, start: IntArray, stop: IntArray) -> None:
        self.sequences, self.start = sequences, start
        self.lengths = stop - start
        self.events, self.rows = concatenate_ranges(start, stop)
        self.row_starts = np.cumsum(self.lengths) - self.lengths  # into the flat events
        self.items = sequences.items[self.events]
        self.domains = sequences.domain_of(self.items)

    def query_last(self, targets: IntArray, domains: IntArray) -> _Queries:
        """Returns queries of each row, one per row of `domains` (n, B)."""
        times = len(domains)
        return _Queries(
            np.tile(np.arange(len(self.start)), times),
            np.tile(self.row_starts + self.lengths, times),
            np.tile(targets, times),
            domains.flatten(),
        )

    def batch(self, users: IntArray, queries: _Queries) -> CrossDomainBatch:
        width = max(int(self.lengths.max(initial=0)), 1)
        mixed = _pad(self.items, self.rows, self.row_starts, len(users), width)
        last = np.arange(len(users)) * width + self.lengths - 1
        per_domain = [self._domain(d, queries, width) for d in range(self.sequences.domain_count)]
        return CrossDomainBatch(
            users=torch.from_numpy(np.asarray(users, np.int64)),
            mixed_items=torch.from_numpy(mixed),
            local_items=tuple(torch.from_numpy(items) for items, _ in per_domain),
            last_position=torch.from_numpy(np.where(self.lengths > 0, last, -1)),
            queries=tuple(asked for _, asked in per_domain),
        )

    def _domain(
        self, domain: int, queries: _Queries, mixed_width: int
    ) -> tuple[IntArray, DomainQueries]:
        own = self.domains == domain
        before = np.concatenate(
            ([0], np.cumsum(own))
        )  # (events + 1,) cumulative events of the domain
        counts = before[self.row_starts + self.lengths] - before[self.row_starts]  # (B,)
        present = counts > 0
        local_row = np.cumsum(present) - 1
        width = max(int(counts.max(initial=0)), 1)
        kept = counts[present]
        items = _pad(
            self.items[own], local_row[self.rows[own]], np.cumsum(kept) - kept, len(kept), width
        )

        asked = np.flatnonzero(queries.domains == domain)
        rows, inputs = queries.rows[asked], queries.inputs[asked]
        seen = inputs - self.row_starts[rows]
        seen_here = before[inputs] - before[self.row_starts[rows]]
        mixed_position = np.where(seen > 0, rows * mixed_width + seen - 1, -1)
        local_position = np.where(seen_here > 0, local_row[rows] * width + seen_here - 1, -1)
        return items, DomainQueries(
            rows=torch.from_numpy(rows),
            mixed_position=torch.from_numpy(mixed_position),
            local_position=torch.from_numpy(local_position),
            targets=torch.from_numpy(queries.targets[asked]),
        )


def _pad(
    items: IntArray, rows: IntArray, row_starts: IntArray, height: int, width: int
) -> IntArray:
    """Returns flat events as a right-padded (height, width) table."""
    columns = np.arange(len(items)) - row_starts[rows]
    table = np.zeros((height, width), np.int64)
    table[rows, columns] = items
    return table
