"""Ranks of targets among candidates, and ranking metrics independent of tie-breaking.

A rank is stored as two counts: candidates with a higher score than the target and candidates with
the same score. Metrics are expectations over all orders of ties, so a constant scorer equals chance
(METHOD 6 and 7.8).

Dimensions: R prefixes, I_d items of a domain, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.negatives import UnseenItems
from model.data.sequences import IntArray, Prefixes, Sequences
from model.scoring.model_scorer import CandidateScorer, Scorer

BLOCK_SCORES = 4_000_000  # scores per block: 16 MB, reused by the allocator
BLOCK_CANDIDATES = 100_000  # item vectors per block: 100 MB at width 256


class NanScoreError(ArithmeticError):
    """A scorer returned NaN, or a recommendation has a non-finite score."""


@dataclass(frozen=True)
class Ranks:
    """One row per prefix, in the order of the prefixes."""

    users: IntArray  # (R,)
    domains: IntArray  # (R,) domain of the target
    greater: IntArray  # (R,) candidates scoring above the target
    equal: IntArray  # (R,) candidates other than the target scoring the same
    candidates: IntArray  # (R,) candidates, the target not counted

    def select(self, rows: NDArray[np.bool_]) -> Ranks:
        """Returns the rows of a mask (R,)."""
        return Ranks(
            self.users[rows],
            self.domains[rows],
            self.greater[rows],
            self.equal[rows],
            self.candidates[rows],
        )


@dataclass(frozen=True)
class RankingMetrics:
    """Means over `count` prefixes, by cutoff; NaN without prefixes."""

    count: int
    ndcg: dict[int, float]
    hit_rate: dict[int, float]
    reciprocal_rank: dict[int, float]


def rank_all(scorer: Scorer, prefixes: Prefixes) -> Ranks:
    """Ranks each target among all unseen items of its domain.

    The target is always included, even if the user has seen it (METHOD 6). Raises NanScoreError.
    """
    return _rank(scorer, prefixes, None)


def rank_sampled(scorer: Scorer, prefixes: Prefixes, candidates: IntArray) -> Ranks:
    """Ranks each target against its row of `candidates` (R, C); 0 means no candidate."""
    if candidates.shape[0] != len(prefixes):
        raise ValueError(f"{candidates.shape[0]} rows of candidates for {len(prefixes)} targets")
    return _rank(scorer, prefixes, candidates)


def rank_candidates(scorer: CandidateScorer, prefixes: Prefixes, candidates: IntArray) -> Ranks:
    """Returns the ranks of `rank_sampled`, scoring candidates only.

    The cost is independent of the catalogue's size. Raises NanScoreError.
    """
    sequences, width = prefixes.sequences, candidates.shape[1] + 1
    domains = sequences.domain_of(prefixes.targets)
    counts = np.zeros((3, len(prefixes)), np.int64)
    for domain in range(sequences.domain_count):
        for rows in _blocks(prefixes, domains, domain, BLOCK_CANDIDATES // width):
            block, drawn = prefixes.select(rows), candidates[rows]
            asked = np.concatenate((block.targets[:, None], drawn), axis=1)  # (R, C + 1)
            scores = scorer.score(block, domain, asked)
            exists = (drawn > 0) & (drawn != block.targets[:, None])
            kept = np.concatenate((np.ones((len(block), 1), bool), exists), axis=1)
            scores = scores.cpu().masked_fill(~torch.from_numpy(kept), 0.0)
            _refuse_nan(scores, block, sequences.domain_names[domain])
            counts[:, rows] = _count_drawn(scores[:, :1], scores[:, 1:], torch.from_numpy(exists))
    return Ranks(prefixes.users, domains, counts[0], counts[1], counts[2])


def sample_candidates(sequences: Sequences, prefixes: Prefixes, count: int, seed: int) -> IntArray:
    """Returns `count` distinct items of each target's domain outside the user's history, (R,
    count).

    The history is the user's whole sequence in `sequences`. Each row depends on seed, user and
    position only, not on order or workers. Padded with 0 for users with fewer unseen items.
    """
    unseen = UnseenItems(sequences)
    domains = sequences.domain_of(prefixes.targets)
    places = prefixes.stop - prefixes.start
    drawn = np.zeros((len(prefixes), count), np.int64)
    for row, (user, domain, place) in enumerate(
        zip(prefixes.users.tolist(), domains.tolist(), places.tolist(), strict=True)
    ):
        items = unseen.draw_distinct(
            user, domain, count, np.random.default_rng((seed, user, place))
        )
        drawn[row, : len(items)] = items
    return drawn


def ranking_metrics(ranks: Ranks, cutoffs: Sequence[int] = (5, 10, 20)) -> RankingMetrics:
    """Returns NDCG, hit rate and reciprocal rank at each cutoff, as expectations over ties."""
    means = {
        name: {
            k: float(np.mean(values)) if len(values) else float("nan") for k, values in by.items()
        }
        for name, by in expected_gains(ranks, cutoffs).items()
    }
    return RankingMetrics(len(ranks.users), means["NDCG"], means["HR"], means["MRR"])


def expected_gains(
    ranks: Ranks, cutoffs: Sequence[int] = (5, 10, 20)
) -> dict[str, dict[int, NDArray[np.float64]]]:
    """Returns each row's gain, (R,), by metric (NDCG, HR, MRR) and cutoff.

    A metric is the mean of its gains; paired comparisons of two models resample them.
    """
    depth = max(cutoffs)
    position = np.arange(1, depth + 1)
    by_place = {"NDCG": 1 / np.log2(position + 1), "HR": np.ones(depth), "MRR": 1 / position}
    return {
        name: {k: _expected_gain(ranks, gain[:k]) for k in cutoffs}
        for name, gain in by_place.items()
    }


def _expected_gain(ranks: Ranks, gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the gain of each row, averaged over the ranks `greater .. greater + equal`
    (from 0)."""
    total = np.concatenate(([0.0], np.cumsum(gain)))
    first = np.minimum(ranks.greater, len(gain))
    last = np.minimum(ranks.greater + ranks.equal + 1, len(gain))
    return (total[last] - total[first]) / (ranks.equal + 1)


def _rank(scorer: Scorer, prefixes: Prefixes, candidates: IntArray | None) -> Ranks:
    sequences = prefixes.sequences
    domains = sequences.domain_of(prefixes.targets)
    counts = np.zeros((3, len(prefixes)), np.int64)
    for domain in range(sequences.domain_count):
        size = BLOCK_SCORES // sequences.domain_size(domain)
        for rows in _blocks(prefixes, domains, domain, size):
            block = prefixes.select(rows)
            scores = scorer.score(block, domain)
            _refuse_nan(scores, block, sequences.domain_names[domain])
            first = int(sequences.domain_starts[domain]) + 1
            if candidates is None:
                counts[:, rows] = _count_all(scores, block, domain, first)
            else:
                counts[:, rows] = _count_sampled(scores, block, first, candidates[rows])
    return Ranks(prefixes.users, domains, counts[0], counts[1], counts[2])


def _blocks(prefixes: Prefixes, domains: IntArray, domain: int, size: int) -> Iterator[IntArray]:
    """Yields rows of one domain in blocks of similar prefix length, to limit padding."""
    rows = np.flatnonzero(domains == domain)
    rows = rows[np.argsort((prefixes.stop - prefixes.start)[rows], kind="stable")]
    size = max(1, min(2048, size))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def _count_all(scores: Tensor, block: Prefixes, domain: int, first: int) -> IntArray:
    """Returns counts over the whole row, minus seen items, (3, R)."""
    size = scores.shape[1]
    target = _gather(scores, block.targets[:, None] - first)  # (R, 1)
    greater = _row_sums(torch.gt(scores, target, out=torch.empty_like(scores)))
    equal = _row_sums(torch.eq(scores, target, out=torch.empty_like(scores))) - 1
    rows, columns = block.columns_in(domain)
    other = columns != (block.targets - first)[rows]
    place = np.unique(rows[other] * size + columns[other])  # each seen item once
    seen_rows = place // size
    seen = scores.reshape(-1)[torch.from_numpy(place).to(scores.device)]  # may be an expanded row
    reference = target[:, 0][torch.from_numpy(seen_rows).to(scores.device)]
    found = torch.stack((seen > reference, seen == reference)).cpu().numpy()
    greater, equal = torch.stack((greater, equal)).cpu().numpy()
    seen_count = np.bincount(seen_rows, minlength=len(block))
    greater -= np.bincount(seen_rows, found[0], len(block)).astype(np.int64)
    equal -= np.bincount(seen_rows, found[1], len(block)).astype(np.int64)
    return np.stack((greater, equal, size - 1 - seen_count))


def _row_sums(flags: Tensor) -> Tensor:
    """Returns row sums of booleans as floats: exact up to 2**24 items, and nine times faster on a
    CPU than summing booleans."""
    return flags.sum(1).long()


def _count_sampled(scores: Tensor, block: Prefixes, first: int, candidates: IntArray) -> IntArray:
    exists = torch.from_numpy((candidates > 0) & (candidates != block.targets[:, None]))
    target = _gather(scores, block.targets[:, None] - first).cpu()
    drawn = _gather(scores, np.maximum(candidates - first, 0)).cpu()  # (R, C)
    return _count_drawn(target, drawn, exists)


def _count_drawn(target: Tensor, drawn: Tensor, exists: Tensor) -> IntArray:
    """Returns counts (3, R) of the scores `drawn` (R, C) relative to `target` (R, 1)."""
    greater, equal = ((drawn > target) & exists).sum(1), ((drawn == target) & exists).sum(1)
    return torch.stack((greater, equal, exists.sum(1))).numpy()


def _gather(scores: Tensor, columns: IntArray) -> Tensor:
    return scores.gather(1, torch.from_numpy(columns).to(scores.device))


def _refuse_nan(scores: Tensor, block: Prefixes, domain_name: str) -> None:
    # A sum is NaN if any score is NaN or infinities of both signs occur: check in detail only then.
    if not torch.isnan(scores.sum()):
        return
    broken = torch.isnan(scores).any(1).nonzero()
    if len(broken):
        raise NanScoreError(
            f"NaN score for user {int(block.users[int(broken[0])])} in domain {domain_name!r}: "
            "the model has diverged; lower the learning rate or start from another checkpoint"
        )
