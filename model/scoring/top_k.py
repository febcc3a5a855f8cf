"""Top-k items of a domain for each user, without seen items.

Neither another user nor another k changes the order of equal scores. They are frequent, because
items that are never bought and have near texts have equal scores, and `torch.topk` returns any of
them.

Dimensions: R users, I_d items of the domain, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
