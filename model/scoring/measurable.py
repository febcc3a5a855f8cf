"""Selection of held-out events with enough candidates for ranking metrics.

A target ranked against three others is in the top ten for every model, so it carries no information
and distorts the mean.
"""

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes

LEAST_CANDIDATES = 20
"""Minimum candidates beside the target, so that chance reaches the top ten in less than half of the
cases."""


def candidate_counts(prefixes: Prefixes) -> IntArray:
    """Returns the number of candidates (R,) of each target in `ranking.rank_all`: unseen items of
    its domain, without the target."""
    sequences = prefixes.sequences
    domains = sequences.domain_of(prefixes.targets)
    sizes = np.diff(sequences.domain_starts)[domains]
    rows, items = prefixes.items()
    other = (sequences.domain_of(items) == domains[rows]) & (items != prefixes.targets[rows])
    met = np.unique(rows[other] * (sequences.item_count + 1) + items[other])  # Each item once.
    return sizes - 1 - np.bincount(met // (sequences.item_count + 1), minlength=len(prefixes))


def is_measurable(prefixes: Prefixes) -> NDArray[np.bool_]:
    """Returns whether each event (R,) has at least `LEAST_CANDIDATES` candidates."""
    return candidate_counts(prefixes) >= LEAST_CANDIDATES


def unmeasured_by_domain(prefixes: Prefixes) -> dict[str, int]:
    """Returns the number of unmeasurable events by domain, without zeros."""
    sequences = prefixes.sequences
    left_out = prefixes.select(np.flatnonzero(~is_measurable(prefixes)))
    counts = np.bincount(sequences.domain_of(left_out.targets), minlength=sequences.domain_count)
    names = zip(sequences.domain_names, counts.tolist(), strict=True)
    return {name: count for name, count in names if count}
