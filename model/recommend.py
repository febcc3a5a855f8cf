"""The best items of a domain for each user, those the user has met left out.

Dimensions: R users asked for, I_d items of the domain, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.memory import SparseAddition
from model.ranking import BLOCK_SCORES
from model.scoring import ModelScorer, Scorer
from model.sequences import IntArray, Prefixes, Sequences, concatenate_ranges

BLOCK_EVENTS = 4096
"""Events of a block, padding included. One long history would otherwise pad thousands of short ones
to its length: 20 items of both domains for 1,431 users took 5 s in single blocks, and 1.1 s so."""
BLOCK_USERS = 2048
CANDIDATE_BLOCK = 128
"""Users whose candidates' vectors are gathered at a time: 50 MB for 400 candidates of width 256."""


@dataclass(frozen=True)
class Recommendations:
    """Best first; a user with too few unseen items has item 0 and score -inf at the end."""

    users: IntArray  # (R,)
    items: IntArray  # (R, k) global item index
    scores: NDArray[np.float32]  # (R, k)


class CandidateSource(Protocol):
    """Finds items that may score high, so that not every item has to be scored."""

    def columns(self, states: NDArray[np.float32], count: int) -> IntArray:
        """Columns (R, count) of the items that fit each state best; -1 where there are fewer."""
        ...


def recommend(
    scorer: Scorer,
    sequences: Sequences,
    users: IntArray,
    domain: int,
    count: int = 10,
    exclude_seen: bool = True,
    allowed: NDArray[np.bool_] | None = None,
) -> Recommendations:
    """Top `count` items of `domain` after each user's whole history, in `sequences` as given.

    Users and items need not have been trained on: any history over the scorer's items will do.
    Of the domain's items only those marked in `allowed` (I_d,) are recommended; all where None.
    """
    users = np.asarray(users, np.int64)
    size, first = sequences.domain_size(domain), int(sequences.domain_starts[domain]) + 1
    count = min(count, size)
    items = np.zeros((len(users), count), np.int64)
    best = np.zeros((len(users), count), np.float32)
    block = max(1, min(BLOCK_USERS, BLOCK_SCORES // size))
    banned = None if allowed is None else torch.from_numpy(~allowed)
    prefixes = sequences.prefixes_of_users(users)
    for rows in _blocks(prefixes, block):
        asked = prefixes.select(rows)
        scores = scorer.score(asked, domain).float().clone()  # (b, I_d)
        if exclude_seen:
            row, columns = _seen_columns(asked, domain)
            scores[torch.from_numpy(row), torch.from_numpy(columns)] = -torch.inf
        if banned is not None:
            scores[:, banned.to(scores.device)] = -torch.inf
        top, place = (found.cpu().numpy() for found in torch.topk(scores, count, dim=1))
        best[rows] = top
        items[rows] = np.where(np.isneginf(top), 0, place + first)
    return Recommendations(users, items, best)


def recommend_among(
    scorer: ModelScorer,
    source: CandidateSource,
    sequences: Sequences,
    users: IntArray,
    domain: int,
    count: int = 10,
    exclude_seen: bool = True,
    candidates: int = 200,
) -> Recommendations:
    """As `recommend`, scoring only what `source` proposes: for catalogues of millions of items.

    `candidates` are proposed beyond the items that a user has met, and as many from the transition
    memory, which `source` does not know; scores are exact.
    """
    users = np.asarray(users, np.int64)
    first = int(sequences.domain_starts[domain]) + 1
    prefixes = sequences.prefixes_of_users(users)
    lengths = prefixes.stop - prefixes.start
    shape = (len(users), count)
    found = Recommendations(users, np.zeros(shape, np.int64), np.full(shape, -np.inf, np.float32))
    for rows in _blocks(prefixes, CANDIDATE_BLOCK):
        asked = prefixes.select(rows)
        states = scorer.states(asked, domain)  # (b, 2H)
        seen = int(lengths[rows].max(initial=0)) if exclude_seen else 0
        proposed = source.columns(states.cpu().numpy(), max(candidates, count) + seen)  # (b, C)
        addition = scorer.remembered(asked, domain)
        if addition is not None:
            proposed = _with_remembered(proposed, addition, candidates)
        scores = scorer.score_columns(states, domain, proposed).clone()
        if addition is not None:
            scores = scores + addition.at(proposed)
        scores[torch.from_numpy(proposed < 0)] = -torch.inf
        if exclude_seen:
            scores[torch.from_numpy(_is_seen(asked, domain, proposed))] = -torch.inf
        top, place = torch.topk(scores, min(count, scores.shape[1]), dim=1)
        best, chosen = top.cpu().numpy(), np.take_along_axis(proposed, place.cpu().numpy(), 1)
        found.scores[rows, : best.shape[1]] = best
        found.items[rows, : best.shape[1]] = np.where(np.isneginf(best), 0, chosen + first)
    return found


def _with_remembered(proposed: IntArray, addition: SparseAddition, count: int) -> IntArray:
    """`proposed` (R, C) and each row's `count` columns of largest addition; -1 where there is none.

    A column that is proposed already is not repeated: it would be recommended twice.
    """
    queries, columns = addition.queries.cpu().numpy(), addition.columns.cpu().numpy()
    order = np.lexsort((-addition.values.cpu().numpy(), queries))
    queries, columns = queries[order], columns[order]
    place = np.arange(len(queries)) - np.searchsorted(queries, queries)
    kept = place < count
    stride = int(columns.max(initial=0)) + int(proposed.max(initial=0)) + 2
    known = np.arange(len(proposed))[:, None] * stride + proposed
    kept &= ~np.isin(queries * stride + columns, known[proposed >= 0])
    more = np.full((len(proposed), count), -1)
    more[queries[kept], place[kept]] = columns[kept]
    return np.concatenate((proposed, more), axis=1)


def _blocks(prefixes: Prefixes, most: int) -> Iterator[IntArray]:
    """Rows of like length, at most `most` and `BLOCK_EVENTS` at a time (one row always fits)."""
    lengths = prefixes.stop - prefixes.start
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        padded = lengths[order[begin : begin + most]] * np.arange(1, len(order[begin:][:most]) + 1)
        size = max(1, int(np.searchsorted(padded, BLOCK_EVENTS, side="right")))
        yield order[begin : begin + size]
        begin += size


def _seen_columns(asked: Prefixes, domain: int) -> tuple[IntArray, IntArray]:
    """Row and column of every event of the domain in the prefixes."""
    sequences = asked.sequences
    size, first = sequences.domain_size(domain), int(sequences.domain_starts[domain]) + 1
    events, row = concatenate_ranges(asked.start, asked.stop)
    columns = sequences.items[events] - first
    own = (columns >= 0) & (columns < size)
    return row[own], columns[own]


def _is_seen(asked: Prefixes, domain: int, proposed: IntArray) -> NDArray[np.bool_]:
    """Which of the proposed columns (R, C) the row's user has met."""
    size = asked.sequences.domain_size(domain)
    row, columns = _seen_columns(asked, domain)
    own = np.arange(len(proposed))[:, None] * size + proposed
    return np.isin(own, row * size + columns) & (proposed >= 0)
