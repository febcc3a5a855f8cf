"""Take users' links between domains away: what quality owes to people seen in several domains.

A user who loses the link becomes one user per domain. No event is added or lost, each keeps its
split, and users who keep their link at a small share keep it at every larger one.

Dimensions: U users before, U' after, R prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray, Prefixes, Sequences, concatenate_ranges


@dataclass(frozen=True)
class Unlinked:
    """Histories after the cut, and whom they belonged to."""

    sequences: Sequences
    original_users: IntArray  # (U',) user before the cut
    linked_users: int  # users of several domains who kept their link


def unlink(sequences: Sequences, share: float, seed: int) -> Unlinked:
    """Keep the links of `share` (0 to 1) of the users of several domains, drawn by the seed.

    Users without any event are left out.
    """
    users, domains = sequences.event_users, sequences.domain_of(sequences.items)
    overlapping = overlapping_users(sequences)
    order = np.random.default_rng(seed).permutation(overlapping)
    kept = round(share * len(overlapping))
    loses_link = np.zeros(sequences.user_count, bool)
    loses_link[order[kept:]] = True

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
    return Unlinked(cut, parts // sequences.domain_count, kept)


def overlapping_users(sequences: Sequences) -> IntArray:
    """Users with events in more than one domain, ascending."""
    domains = sequences.domain_of(sequences.items)
    active = np.zeros((sequences.user_count, sequences.domain_count), bool)
    active[sequences.event_users, domains] = True
    return np.flatnonzero(active.sum(axis=1) > 1)


def has_own_domain_history(prefixes: Prefixes) -> NDArray[np.bool_]:
    """Rows (R,) whose user has met the target's domain before.

    These events can be asked of a user with and without the link, so quality is compared on them.
    """
    sequences = prefixes.sequences
    events, rows = concatenate_ranges(prefixes.start, prefixes.stop)
    wanted = sequences.domain_of(prefixes.targets)[rows]
    found = np.zeros(len(prefixes), bool)
    found[rows[sequences.domain_of(sequences.items[events]) == wanted]] = True
    return found
