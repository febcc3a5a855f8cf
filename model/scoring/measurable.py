"""Which held-out events can be measured at all.

A target that is ranked against three others is among the first ten whatever the model is: its NDCG
tells nothing, and in a mean it hides what the others tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes, concatenate_ranges

LEAST_CANDIDATES = 20
"""Beside the target; chance then puts it among the first ten in less than half of all cases."""


def candidate_counts(prefixes: Prefixes) -> IntArray:
    """Items (R,) that each target is ranked against by `ranking.rank_all`: those of its domain that
    its user has not met before, the target itself not counted."""
    sequences = prefixes.sequences
    domains = sequences.domain_of(prefixes.targets)
    sizes = np.diff(sequences.domain_starts)[domains]
    events, rows = concatenate_ranges(prefixes.start, prefixes.stop)
    items = sequences.items[events]
    other = (sequences.domain_of(items) == domains[rows]) & (items != prefixes.targets[rows])
    met = np.unique(rows[other] * (sequences.item_count + 1) + items[other])  # Each item once.
    return sizes - 1 - np.bincount(met // (sequences.item_count + 1), minlength=len(prefixes))


def is_measurable(prefixes: Prefixes) -> NDArray[np.bool_]:
    """Whether each event (R,) has `LEAST_CANDIDATES` or more."""
    return candidate_counts(prefixes) >= LEAST_CANDIDATES


def unmeasured_by_domain(prefixes: Prefixes) -> dict[str, int]:
    """Returns how many events cannot be measured, of each domain that has some."""
    sequences = prefixes.sequences
    left_out = prefixes.select(np.flatnonzero(~is_measurable(prefixes)))
    counts = np.bincount(sequences.domain_of(left_out.targets), minlength=sequences.domain_count)
    names = zip(sequences.domain_names, counts.tolist(), strict=True)
    return {name: count for name, count in names if count}
