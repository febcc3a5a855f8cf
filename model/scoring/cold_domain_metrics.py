"""Metrics of withheld domains: users without a history in a domain (METHOD 9).

All items of a user's withheld domain are ranked after the remaining history. Each value is the
expectation over all orders of tied items.

Dimensions: U users, R withheld items of all of them, D domains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes
from model.scoring.model_scorer import Scorer
from model.scoring.ranking import Ranks, expected_gains, rank_all

CUTOFF = 10

ANY_HIT, ALL_NDCG, FIRST_HIT, FIRST_NDCG = "any@10", "NDCG@10", "first HR@10", "first NDCG@10"
METRICS = (ANY_HIT, ALL_NDCG, FIRST_HIT, FIRST_NDCG)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ColdGains:
    """One row per user with a withheld domain, ascending by user.

    A metric is the mean of its values; paired comparisons of two models resample users.
    """

    users: IntArray  # (U,)
    targets: IntArray  # (U,) the withheld domain
    sources: NDArray[np.bool_]  # (U, D) domains of the remaining history
    values: dict[str, FloatArray]
    """(U,) by metric. `ANY_HIT`: some withheld item is among the first ten. `ALL_NDCG`: every
    withheld item is relevant. `FIRST_HIT` and `FIRST_NDCG`: only the first withheld event is."""

    def directions(self, domain_names: tuple[str, ...]) -> list[str]:
        """Returns 'source → target' of each user; several sources are joined by '+'."""
        return [
            " + ".join(domain_names[d] for d in np.flatnonzero(row)) + f" → {domain_names[target]}"
            for row, target in zip(self.sources, self.targets.tolist(), strict=True)
        ]


def measure_cold(scorer: Scorer, withheld: Prefixes) -> ColdGains:
    """Ranks the prefixes of `Sequences.prefixes_of_withheld`; raises NanScoreError."""
    return cold_gains(rank_all(scorer, withheld), withheld)


def cold_gains(ranks: Ranks, withheld: Prefixes) -> ColdGains:
    """Returns each user's values from the ranks of the withheld items."""
    users, first, counts = np.unique(withheld.users, return_index=True, return_counts=True)
    row = np.repeat(np.arange(len(users)), counts)
    gains = expected_gains(ranks, (CUTOFF,))
    dcg, hit = gains["NDCG"][CUTOFF], gains["HR"][CUTOFF]
    ideal = np.cumsum(1 / np.log2(np.arange(2, CUTOFF + 2)))
    return ColdGains(
        users=users,
        targets=ranks.domains[first],
        sources=withheld.select(first).domains_seen(),
        values={
            ANY_HIT: _any_hit(ranks, row, len(users)),
            ALL_NDCG: np.bincount(row, dcg, len(users)) / ideal[np.minimum(counts, CUTOFF) - 1],
            FIRST_HIT: hit[first],
            FIRST_NDCG: dcg[first],
        },
    )


def _any_hit(ranks: Ranks, row: IntArray, count: int) -> FloatArray:
    """Returns the probability that one of a user's best-ranked withheld items is in the top ten.

    If they are tied with other items, the remaining places are drawn among all tied items: a
    hypergeometric distribution gives the probability of drawing none of the user's.
    """
    above = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(above, row, ranks.greater)
    best = ranks.greater == above[row]
    own = np.bincount(row[best], minlength=count)
    tied = np.zeros(count, np.int64)
    tied[row[best]] = ranks.equal[best] + 1
    places = np.clip(CUTOFF - above, 0, tied)
    missed = np.ones(count)
    for place in range(CUTOFF):
        left = np.maximum(tied - place, 1)
        missed *= np.where(place < places, np.maximum(left - own, 0) / left, 1.0)
    return 1 - missed
