"""Which events are held out: one mark an event, in the order of `Sequences`.

Whatever the protocol, a user's marks from TRAIN to TEST never decrease, so training comes before
validation and validation before test. Events of withheld domains stand anywhere among them.

Dimensions: U users, E events, D domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import COLD_TEST, COLD_VALIDATION, TEST, TRAIN, VALIDATION, IntArray

SplitArray = NDArray[np.int8]

SHORTEST_TESTED = 3
"""Leave-one-out leaves users with fewer events whole: nothing would be left to train on."""


def leave_one_out(offsets: IntArray) -> SplitArray:
    """A user's last event tests, the one before validates (METHOD 6); offsets are (U + 1,)."""
    split = np.full(offsets[-1], TRAIN, np.int8)
    ends = offsets[1:][np.diff(offsets) >= SHORTEST_TESTED]
    split[ends - 1] = TEST
    split[ends - 2] = VALIDATION
    return split


def split_by_time(times: IntArray, validation_from: int, test_from: int) -> SplitArray:
    """Events before ``validation_from`` train, those before ``test_from`` validate, others test."""
    split = np.full(len(times), TRAIN, np.int8)
    split[times >= validation_from] = VALIDATION
    split[times >= test_from] = TEST
    return split


def split_by_user(
    offsets: IntArray, validates: NDArray[np.bool_], tests: NDArray[np.bool_]
) -> SplitArray:
    """Holds users out whole; ``validates`` and ``tests`` are (U,) and never both True."""
    of_user = np.where(tests, TEST, np.where(validates, VALIDATION, TRAIN)).astype(np.int8)
    return np.repeat(of_user, np.diff(offsets))


def withhold_domains(
    offsets: IntArray, domains: IntArray, withheld: IntArray, tests: NDArray[np.bool_]
) -> SplitArray:
    """Withholds one whole domain from some users; of the others the last event validates.

    Args:
        offsets: (U + 1,).
        domains: (E,) the domain of each event.
        withheld: (U,) the domain withheld from each user, -1 for none.
        tests: (U,) whether the withheld events are COLD_TEST, else COLD_VALIDATION.
    """
    lengths = np.diff(offsets)
    split = np.full(offsets[-1], TRAIN, np.int8)
    split[offsets[1:][(lengths >= SHORTEST_TESTED) & (withheld < 0)] - 1] = VALIDATION
    role = np.repeat(np.where(tests, COLD_TEST, COLD_VALIDATION), lengths)
    is_withheld = np.repeat(withheld, lengths) == domains
    split[is_withheld] = role[is_withheld]
    return split


def moments_of_shares(
    times: IntArray, validation_share: float, test_share: float
) -> tuple[int, int]:
    """First moments of validation and test that leave those shares of events after them.

    Events of one moment stay together, so the shares are met as nearly as the times allow.
    """
    count = len(times)
    places = [int(count * (1 - validation_share - test_share)), int(count * (1 - test_share))]
    places = [min(place, count - 1) for place in places]
    ordered = np.partition(times, places)
    return int(ordered[places[0]]), int(ordered[places[1]])
