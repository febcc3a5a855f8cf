"""Top-k items of very large domains: only candidates of a search index are scored.

Dimensions: R users, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes, Sequences
from model.network.transition_memory import SparseAddition
from model.scoring.model_scorer import ModelScorer
from model.scoring.top_k import (
    Recommendations,
    alike_blocks,
    ordered_top,
    recommend_domains,
    refuse_unreal,
)

EXACT_UP_TO = 200_000
"""Items of a domain up to which every item is scored unless another limit is set: a product with so
few is faster than a person notices, and exact."""
CANDIDATE_BLOCK = 128
"""Users per gather of candidate vectors: 50 MB for 400 candidates of width 256."""


class CandidateSource(Protocol):
    """Protocol: finds candidate items with probably high scores."""

    def columns(self, states: NDArray[np.float32], count: int) -> IntArray:
        """Returns columns (R, count) of the best items for each state, padded with -1."""
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
    """As `recommend`, scoring only the candidates of `source`, for millions of items.

    `candidates` are requested in addition to the number of seen items, and as many from the
    transition memory, which is not part of the index; scores are exact. Raises NanScoreError.
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
        proposed = np.sort(proposed, axis=1)
        scores = scorer.score_columns(states, domain, proposed)
        if addition is not None:
            scores = scores + addition.at(proposed)
        scores[torch.from_numpy(proposed < 0)] = -torch.inf
        if exclude_seen:
            scores[torch.from_numpy(_is_seen(asked, domain, proposed))] = -torch.inf
        top, place = ordered_top(scores, min(count, scores.shape[1]))
        refuse_unreal(top.cpu().numpy())
        best, chosen = top.cpu().numpy(), np.take_along_axis(proposed, place.cpu().numpy(), 1)
        found.scores[rows, : best.shape[1]] = best
        found.items[rows, : best.shape[1]] = np.where(np.isneginf(best), 0, chosen + first)
    return found


def recommend_indexed(
    scorer: ModelScorer,
    indices: Mapping[int, CandidateSource],
    sequences: Sequences,
    users: IntArray,
    domains: Sequence[int],
    count: int = 10,
    exclude_seen: bool = True,
    allowed: Mapping[int, NDArray[np.bool_]] | None = None,
) -> dict[int, Recommendations]:
    """As `recommend_domains`, by `recommend_among` in domains with an index; with `allowed` all
    items are scored."""
    indexed = {} if allowed else indices
    wish = (count, exclude_seen)
    exact = [domain for domain in domains if domain not in indexed]
    found = recommend_domains(scorer, sequences, users, exact, *wish, allowed)
    for domain in domains:
        if domain in indexed:
            found[domain] = recommend_among(
                scorer, indexed[domain], sequences, users, domain, *wish
            )
    return {domain: found[domain] for domain in domains}


def _with_remembered(proposed: IntArray, addition: SparseAddition, count: int) -> IntArray:
    """Returns `proposed` (R, C) and each row's `count` columns with the largest additions, padded
    with -1.

    Columns are not repeated, because a repeated item would be recommended twice.
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
    """Returns which of the proposed columns (R, C) the row's user has seen."""
    size = asked.sequences.domain_size(domain)
    row, columns = asked.columns_in(domain)
    own = np.arange(len(proposed))[:, None] * size + proposed
    return np.isin(own, row * size + columns) & (proposed >= 0)
