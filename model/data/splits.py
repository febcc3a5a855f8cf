"""Splits: one mark per event, in the order of `Sequences`.

In every protocol a user's marks from TRAIN to TEST never decrease, so training precedes validation
and validation precedes test. Events of withheld domains may be at any position.

Dimensions: U users, E events, D domains.
"""

import numpy as np
from numpy.typing import NDArray

from model.data.sequences import COLD_TEST, COLD_VALIDATION, TEST, TRAIN, VALIDATION, IntArray

SplitArray = NDArray[np.int8]

SHORTEST_TESTED = 3
"""Minimum events of a user for leave-one-out; users with fewer events are used for training
only."""


def leave_one_out(offsets: IntArray) -> SplitArray:
    """Returns marks with a user's last event as test and the one before as validation (METHOD 6);
    offsets are (U + 1,)."""
    split = np.full(offsets[-1], TRAIN, np.int8)
    ends = offsets[1:][np.diff(offsets) >= SHORTEST_TESTED]
    split[ends - 1] = TEST
    split[ends - 2] = VALIDATION
    return split


def split_by_time(times: IntArray, validation_from: int, test_from: int) -> SplitArray:
    """Returns marks by time: training before ``validation_from``, validation before ``test_from``,
    then test."""
    split = np.full(len(times), TRAIN, np.int8)
    split[times >= validation_from] = VALIDATION
    split[times >= test_from] = TEST
    return split


def split_by_user(
    offsets: IntArray, validates: NDArray[np.bool_], tests: NDArray[np.bool_]
) -> SplitArray:
    """Returns marks that hold out whole users; ``validates`` and ``tests`` are (U,) and never both
    True."""
    of_user = np.where(tests, TEST, np.where(validates, VALIDATION, TRAIN)).astype(np.int8)
    return np.repeat(of_user, np.diff(offsets))


def withhold_domains(
    offsets: IntArray, domains: IntArray, withheld: IntArray, tests: NDArray[np.bool_]
) -> SplitArray:
    """Returns marks that withhold one whole domain from some users; the last event of the others is
    validation.

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
    """Returns the first times of validation and test for the given shares of later events.

    Events of equal time stay together, so shares are approximate.
    """
    count = len(times)
    places = [int(count * (1 - validation_share - test_share)), int(count * (1 - test_share))]
    places = [min(place, count - 1) for place in places]
    ordered = np.partition(times, places)
    return int(ordered[places[0]]), int(ordered[places[1]])
