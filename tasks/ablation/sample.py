"""Sample of users of an ablation, with held-out events.

Only training and validation events are used. For most users the last event is held out, for some a
whole domain is withheld.

Dimensions: S sampled users, U users of the dataset.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import (
    COLD_TEST,
    TEST,
    TRAIN,
    VALIDATION,
    IntArray,
    Sequences,
    concatenate_ranges,
)
from model.data.splits import SHORTEST_TESTED
from model.data.tables import ProfileVectors

COLD_SHARE = 0.25
"""Share of sampled cross-domain users with a withheld domain."""

VALIDATION_SHARE = 0.25
"""Share of the other users whose last event is used for early stopping."""


@dataclass(frozen=True)
class Sample:
    """Sampled histories and their users."""

    sequences: Sequences
    users: IntArray  # (S,) indices in the dataset, ascending
    eligible: int  # users with enough events

    def own(self, profiles: ProfileVectors | None) -> ProfileVectors | None:
        """Returns the profiles of the sampled users, None without any."""
        if profiles is None or not np.any(profiles.has_profile[self.users]):
            return None
        return ProfileVectors(profiles.vectors[self.users], profiles.has_profile[self.users])


def draw_sample(
    sequences: Sequences, most: int, first: NDArray[np.bool_] | None, seed: int
) -> Sample:
    """Returns at most ``most`` users with at least three events before their test events.

    Args:
        sequences: all histories of the dataset.
        most: users drawn at most.
        first: (U,) users drawn before all others, such as those with a profile.
        seed: draws users, withheld domains and held-out events.
    """
    rng = np.random.default_rng(seed)
    seen = sequences.before_test()
    eligible = np.flatnonzero(np.diff(seen.offsets) >= SHORTEST_TESTED)
    drawn = rng.permutation(eligible)
    if first is not None:
        drawn = drawn[np.argsort(~first[drawn], kind="stable")]
    users = np.sort(drawn[:most])
    events, _ = concatenate_ranges(seen.offsets[users], seen.offsets[users + 1])
    lengths = np.diff(seen.offsets)[users]
    histories = replace(
        seen,
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        items=seen.items[events],
        split=np.full(len(events), TRAIN, np.int8),
    )
    return Sample(_held_out(histories, rng), users, len(eligible))


def _held_out(histories: Sequences, rng: np.random.Generator) -> Sequences:
    """Returns marks of the last event of each user, or of all events in one domain."""
    split = histories.split.copy()
    ends = histories.offsets[1:]
    domains = histories.domain_of(histories.items)
    validates = rng.random(histories.user_count) < VALIDATION_SHARE
    split[ends - 1] = np.where(validates, VALIDATION, TEST)
    goes_cold = rng.random(histories.user_count) < COLD_SHARE
    for user in np.flatnonzero(goes_cold).tolist():
        low, high = histories.offsets[user : user + 2].tolist()
        own = domains[low:high]
        present = np.unique(own)
        withheld = own == rng.choice(present)
        if len(present) > 1 and np.count_nonzero(~withheld) >= SHORTEST_TESTED:
            split[low:high] = np.where(withheld, COLD_TEST, TRAIN)
    return replace(histories, split=split)
