"""Removal of users' links between domains, to measure the effect of overlapping users.

An unlinked user becomes one user per domain. Events and splits are unchanged, and users linked at a
small share are linked at every larger one.

Dimensions: U users before, U' after, R prefixes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes, Sequences


@dataclass(frozen=True)
class Unlinked:
    """Histories after the removal, with their original users."""

    sequences: Sequences
    original_users: IntArray  # (U',) original user


def unlink(sequences: Sequences, share: float, seed: int) -> Unlinked:
    """Keeps the links of a seeded `share` (0 to 1) of the users of several domains.

    Users without events are omitted.
    """
    users, domains = sequences.event_users, sequences.domain_of(sequences.items)
    overlapping = overlapping_users(sequences)
    order = np.random.default_rng(seed).permutation(overlapping)
    loses_link = np.zeros(sequences.user_count, bool)
    loses_link[order[round(share * len(overlapping)) :]] = True

    part = users * sequences.domain_count + np.where(loses_link[users], domains, 0)
    events = np.argsort(part, kind="stable")
    parts, lengths = np.unique(part, return_counts=True)
    cut = Sequences(
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        items=sequences.items[events],
        split=sequences.split[events],
        domain_starts=sequences.domain_starts,
        domain_names=sequences.domain_names,
    )
    return Unlinked(cut, parts // sequences.domain_count)


def overlapping_users(sequences: Sequences) -> IntArray:
    """Returns the users with events in more than one domain, ascending."""
    return np.flatnonzero(sequences.activity().sum(axis=1) > 1)


def has_own_domain_history(prefixes: Prefixes) -> NDArray[np.bool_]:
    """Returns the mask of rows (R,) whose user has earlier events in the target's domain.

    These events can be ranked with and without the link, so metrics are compared on them.
    """
    domains = prefixes.sequences.domain_of(prefixes.targets)
    return prefixes.domains_seen()[np.arange(len(prefixes)), domains]
