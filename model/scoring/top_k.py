"""Top-k items of a domain for each user, without seen items: of all items, or of very large domains
among candidates of a search index.

Neither another user nor another k changes the order of equal scores. They are frequent, because
items that are never bought and have near texts have equal scores, and `torch.topk` returns any of
them.

Dimensions: R users, I_d items of the domain, C candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.sequences import IntArray, Prefixes, Sequences
from model.network.transition_memory import SparseAddition
from model.scoring.history_reader import HistoryStates
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.ranking import BLOCK_SCORES, NanScoreError

BLOCK_EVENTS = 4096
"""Events per block, padding included, so that one long history does not pad thousands of short
ones: 20 items of both domains for 1,431 users took 5 s in one block and 1.1 s in blocks."""
BLOCK_USERS = 2048
READ_TOGETHER = 256
"""Users per gather of candidate vectors: 41 MB for 52 candidates of width 768."""
MARGIN = 32
"""Candidates beyond the requested number, to cover the 1 % error of half precision."""
EXACT_UP_TO = 200_000
"""Items of a domain up to which every item is scored unless another limit is set: a product with so
few is faster than a person notices, and exact."""
CANDIDATE_BLOCK = 128
"""Users per gather of candidate vectors: 50 MB for 400 candidates of width 256."""


@dataclass(frozen=True)
class Recommendations:
    """Descending by score, equal scores by item; rows of users with too few unseen items end with
    item 0 and score -inf."""

    users: IntArray  # (R,)
    items: IntArray  # (R, k) global item index
    scores: NDArray[np.float32]  # (R, k)


def recommend(
    scorer: Scorer,
    sequences: Sequences,
    users: IntArray,
    domain: int,
    count: int = 10,
    exclude_seen: bool = True,
    allowed: NDArray[np.bool_] | None = None,
) -> Recommendations:
    """Returns the top `count` items of `domain` after each user's whole history in `sequences`.

    Any history over the scorer's items is accepted, including unseen users and items. Only items
    marked in `allowed` (I_d,) are recommended; all if None. Raises NanScoreError.
    """
    users = np.asarray(users, np.int64)
    prefixes, size = sequences.prefixes_of_users(users), sequences.domain_size(domain)
    found = _blank(users, min(count, size))
    for rows in alike_blocks(prefixes, max(1, min(BLOCK_USERS, BLOCK_SCORES // size))):
        asked = prefixes.select(rows)
        scores = scorer.score(asked, domain).float().clone()  # (b, I_d)
        _hide(scores, asked, domain, exclude_seen, allowed)
        top, columns = ordered_top(scores, found.items.shape[1])
        _enter(found, rows, top, columns, int(sequences.domain_starts[domain]) + 1)
    return found


@torch.inference_mode()
def recommend_domains(
    scorer: ModelScorer,
    sequences: Sequences,
    users: IntArray,
    domains: Sequence[int],
    count: int = 10,
    exclude_seen: bool = True,
    allowed: Mapping[int, NDArray[np.bool_]] | None = None,
) -> dict[int, Recommendations]:
    """As `recommend`, for several domains, reading each history once.

    Half-precision products select candidates, exact scores rank them. `allowed` is by domain.
    Raises NanScoreError.
    """
    if not domains:
        return {}
    users = np.asarray(users, np.int64)
    sizes = {domain: sequences.domain_size(domain) for domain in domains}
    found = {domain: _blank(users, min(count, size)) for domain, size in sizes.items()}
    prefixes = sequences.prefixes_of_users(users)
    block = max(1, min(READ_TOGETHER, BLOCK_SCORES // max(sizes.values())))
    for rows in alike_blocks(prefixes, block):
        asked = prefixes.select(rows)
        moments = scorer.read(asked, domains)
        for domain, best in found.items():
            addition = scorer.remembered(moments, domain)
            scores = scorer.rough_products(moments, domain)
            if addition is not None:
                addition.added_to(scores)
            _hide(scores, asked, domain, exclude_seen, (allowed or {}).get(domain))
            if scorer.is_rough(domain):
                top, columns = _ranked_exactly(
                    scorer, moments, domain, scores, addition, best.items.shape[1]
                )
            else:
                top, columns = ordered_top(scores, best.items.shape[1])
            _enter(best, rows, top, columns, int(sequences.domain_starts[domain]) + 1)
    return found


def _ranked_exactly(
    scorer: ModelScorer,
    moments: HistoryStates,
    domain: int,
    rough: Tensor,
    addition: SparseAddition | None,
    count: int,
) -> tuple[Tensor, Tensor]:
    """Returns exact scores and columns (R, count) of the top items among the candidates by `rough`
    (R, I_d)."""
    candidates = top_columns(rough, min(count + MARGIN, rough.shape[1]))
    columns = candidates.numpy()
    scores = scorer.score_columns(moments.states[domain], domain, columns)
    if addition is not None:
        scores = scores + addition.at(columns)
    scores[rough.gather(1, candidates).isneginf()] = -torch.inf
    best, place = ordered_top(scores, count)
    return best, candidates.gather(1, place)


def _hide(
    scores: Tensor,
    asked: Prefixes,
    domain: int,
    exclude_seen: bool,
    allowed: NDArray[np.bool_] | None,
) -> None:
    """Sets the scores of excluded items to -inf, in place."""
    if exclude_seen:
        row, columns = asked.columns_in(domain)
        scores[torch.from_numpy(row), torch.from_numpy(columns)] = -torch.inf
    if allowed is not None:
        scores[:, torch.from_numpy(~allowed).to(scores.device)] = -torch.inf


def _blank(users: IntArray, count: int) -> Recommendations:
    shape = (len(users), count)
    return Recommendations(users, np.zeros(shape, np.int64), np.zeros(shape, np.float32))


def _enter(
    found: Recommendations, rows: IntArray, top: Tensor, columns: Tensor, first: int
) -> None:
    scores, place = top.cpu().numpy(), columns.cpu().numpy()
    refuse_unreal(scores)
    found.scores[rows] = scores
    found.items[rows] = np.where(np.isneginf(scores), 0, place + first)


def refuse_unreal(best: NDArray[np.float32]) -> None:
    """Raises NanScoreError if a top score is NaN or infinite, which sort as largest.

    -inf marks an excluded item.
    """
    if np.isnan(best).any() or np.isposinf(best).any():
        raise NanScoreError(
            "the model has non-finite scores; train it again (`llm4cdsr retrain`), or serve the "
            "previous release (`llm4cdsr rollback`)"
        )


def alike_blocks(prefixes: Prefixes, most: int) -> Iterator[IntArray]:
    """Yields rows of similar length in blocks of at most `most` rows and `BLOCK_EVENTS` events, but
    at least one row."""
    lengths = prefixes.stop - prefixes.start
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        padded = lengths[order[begin : begin + most]] * np.arange(1, len(order[begin:][:most]) + 1)
        size = max(1, int(np.searchsorted(padded, BLOCK_EVENTS, side="right")))
        yield order[begin : begin + size]
        begin += size


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


def ordered_top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the `count` largest scores of each row of (R, C), descending, and their columns; of
    equal scores those of the first columns, in their order. NaN counts as largest."""
    columns = top_columns(scores, count)
    values, place = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, place)


def top_columns(scores: Tensor, count: int) -> Tensor:
    """Returns the columns (R, count) of `ordered_top`, ascending."""
    best = torch.topk(scores, min(count + 1, scores.shape[1]), dim=1)
    columns = best.indices[:, :count].sort(dim=1).values
    if scores.shape[1] > count:
        last = best.values[:, count - 1]
        is_tied = (last == best.values[:, count]) & ~last.isneginf()
        for row in is_tied.nonzero().flatten().tolist():
            columns[row] = _first_columns(scores[row], last[row], count)
    return columns


def _first_columns(scores: Tensor, last: Tensor, count: int) -> Tensor:
    """Returns ascending columns (count,): of the scores (C,) above `last`, and the first equal."""
    above = (~(scores <= last)).nonzero().flatten()
    equal = (scores == last).nonzero().flatten()[: count - len(above)]
    return torch.cat((above, equal)).sort().values
