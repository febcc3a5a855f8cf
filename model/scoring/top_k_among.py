"""The best items of a domain of millions: only what a search index proposes is scored.

Dimensions: R users asked for, C candidates.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes, Sequences
from model.network.transition_memory import SparseAddition
from model.scoring.model_scorer import ModelScorer
from model.scoring.top_k import Recommendations, alike_blocks, refuse_unreal, seen_columns

CANDIDATE_BLOCK = 128
"""Users whose candidates' vectors are gathered at a time: 50 MB for 400 candidates of width 256."""


class CandidateSource(Protocol):
    """Finds items that may score high, so that not every item has to be scored."""

    def columns(self, states: NDArray[np.float32], count: int) -> IntArray:
        """Columns (R, count) of the items that fit each state best; -1 where there are fewer."""
        ...


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
    memory, which `source` does not know; scores are exact. Raises NanScoreError.
    """
    users = np.asarray(users, np.int64)
    first = int(sequences.domain_starts[domain]) + 1
    prefixes = sequences.prefixes_of_users(users)
    lengths = prefixes.stop - prefixes.start
    shape = (len(users), count)
    found = Recommendations(users, np.zeros(shape, np.int64), np.full(shape, -np.inf, np.float32))
    for rows in alike_blocks(prefixes, CANDIDATE_BLOCK):
        asked = prefixes.select(rows)
        moments = scorer.read(asked, [domain])
        states = moments.states[domain]  # (b, 2H)
        seen = int(lengths[rows].max(initial=0)) if exclude_seen else 0
        proposed = source.columns(states.cpu().numpy(), max(candidates, count) + seen)  # (b, C)
        addition = scorer.remembered(moments, domain)
        if addition is not None:
            proposed = _with_remembered(proposed, addition, candidates)
        scores = scorer.score_columns(states, domain, proposed)
        if addition is not None:
            scores = scores + addition.at(proposed)
        scores[torch.from_numpy(proposed < 0)] = -torch.inf
        if exclude_seen:
            scores[torch.from_numpy(_is_seen(asked, domain, proposed))] = -torch.inf
        top, place = torch.topk(scores, min(count, scores.shape[1]), dim=1)
        refuse_unreal(top.cpu().numpy())
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


def _is_seen(asked: Prefixes, domain: int, proposed: IntArray) -> NDArray[np.bool_]:
    """Which of the proposed columns (R, C) the row's user has met."""
    size = asked.sequences.domain_size(domain)
    row, columns = seen_columns(asked, domain)
    own = np.arange(len(proposed))[:, None] * size + proposed
    return np.isin(own, row * size + columns) & (proposed >= 0)
