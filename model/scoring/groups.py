"""Groups of held-out events for metrics by group.

Each group is a mask over the rows of `Prefixes`, so one ranking serves all groups.
"""

from itertools import pairwise

import numpy as np

from model.data.overlap import has_own_domain_history
from model.data.sequences import Prefixes

HEAD_SHARE = 0.2
"""Share of a domain's most popular items that are its head; the others are its tail."""

FIRST_IN_DOMAIN = "first event in its domain"
"""Name of the group of held-out events whose user had no earlier event in the domain."""

SHORT_HISTORY, LONG_HISTORY = 5, 20


def metric_groups(prefixes: Prefixes) -> dict[str, np.ndarray]:
    """Returns bool (rows,) masks by the name of their group; "all" is everything."""
    sequences = prefixes.sequences
    bought = np.bincount(sequences.training().items, minlength=sequences.item_count + 1)
    target_counts = bought[prefixes.targets]
    is_head = _is_head(prefixes, bought)[prefixes.targets]
    lengths = prefixes.stop - prefixes.start
    domains_seen = prefixes.domains_seen().sum(axis=1)
    last = sequences.domain_of(sequences.items[prefixes.stop - 1])
    switches = last != sequences.domain_of(prefixes.targets)
    return {
        "all": np.ones(len(prefixes), bool),
        "users in several domains": domains_seen > 1,
        "users in one domain": domains_seen == 1,
        "domain switch before the target": switches,
        "no domain switch before the target": ~switches,
        FIRST_IN_DOMAIN: ~has_own_domain_history(prefixes),
        f"short histories (up to {SHORT_HISTORY})": lengths <= SHORT_HISTORY,
        f"middle histories ({SHORT_HISTORY + 1} to {LONG_HISTORY})": (lengths > SHORT_HISTORY)
        & (lengths <= LONG_HISTORY),
        f"long histories (over {LONG_HISTORY})": lengths > LONG_HISTORY,
        "head items": is_head & (target_counts > 0),
        "tail items": ~is_head & (target_counts > 0),
        "items unseen in training": target_counts == 0,
    }


def _is_head(prefixes: Prefixes, bought: np.ndarray) -> np.ndarray:
    starts = prefixes.sequences.domain_starts
    is_head = np.zeros(len(bought), bool)
    for low, high in pairwise(starts):
        order = np.argsort(-bought[low + 1 : high + 1], kind="stable")
        is_head[low + 1 + order[: max(1, int(HEAD_SHARE * len(order)))]] = True
    return is_head
