"""Assignment of events to training, validation and test by the configured protocol."""

import hashlib
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts.kinds.dataset import Split
from artifacts.user_error import UserError
from model.data.splits import (
    SHORTEST_TESTED,
    SplitArray,
    leave_one_out,
    moments_of_shares,
    split_by_time,
    split_by_user,
    withhold_domains,
)
from tasks.dump.dump_config import ByTime, ByUser, ColdDomain, LeaveOneOut, Protocol, in_utc
from tasks.dump.events.event_sieve import users_in_drawn_order
from tasks.dump.fields.time_units import SECOND, utc_text


class NothingHeldOutError(UserError, ValueError):
    """A split has no training events or no test events."""


def split_events(
    protocol: Protocol,
    offsets: NDArray[np.int64],
    times: NDArray[np.int64],
    domains: NDArray[np.int64],
    user_ids: pl.Series,
    seed: int,
) -> tuple[SplitArray, list[str]]:
    """Returns one mark per event, and notes about the split.

    Args:
        protocol: which events are held out.
        offsets: (users + 1,), the events of each user.
        times: (events,) microseconds.
        domains: (events,) the number of each event's domain.
        user_ids: (users,).
        seed: seed of held-out users.

    Raises:
        NothingHeldOutError.
    """
    match protocol:
        case LeaveOneOut():
            return leave_one_out(offsets), []
        case ByTime():
            return _by_time(protocol, times)
        case ByUser():
            return _by_user(protocol, offsets, user_ids, seed)
        case ColdDomain():
            return _cold_domain(protocol, offsets, domains, user_ids, seed)


def _by_time(protocol: ByTime, times: NDArray[np.int64]) -> tuple[SplitArray, list[str]]:
    validation, test = moments_of_shares(times, protocol.validation_share, protocol.test_share)
    validation = _given(protocol.validation_from, validation)
    test = _given(protocol.test_from, test)
    marks = split_by_time(times, validation, test)
    begun, tested = utc_text(validation), utc_text(test)
    for split, what in ((Split.TRAIN, "train on"), (Split.TEST, "test")):
        if not np.any(marks == split):
            first, last = utc_text(times.min()), utc_text(times.max())
            raise NothingHeldOutError(
                f"validation from {begun} and test from {tested} leave nothing to {what}: the "
                f"events reach from {first} to {last}; give other moments, or leave them out"
            )
    return marks, [
        f"held out by time: validation events from {begun} on, test events from {tested} on, "
        "training sees nothing later"
    ]


def _by_user(
    protocol: ByUser, offsets: NDArray[np.int64], user_ids: pl.Series, seed: int
) -> tuple[SplitArray, list[str]]:
    drawn = users_in_drawn_order(user_ids, seed)
    count = len(drawn)
    tested = max(1, round(count * protocol.test_share))
    validated = max(1, round(count * protocol.validation_share))
    tests, validates = np.zeros(count, bool), np.zeros(count, bool)
    tests[drawn[:tested]] = True
    validates[drawn[tested : tested + validated]] = True
    return split_by_user(offsets, validates, tests), [
        f"held out by user: {int(validates.sum()):,} users validate and {tested:,} test, and "
        "training sees none of their events"
    ]


def _cold_domain(
    protocol: ColdDomain,
    offsets: NDArray[np.int64],
    domains: NDArray[np.int64],
    user_ids: pl.Series,
    seed: int,
) -> tuple[SplitArray, list[str]]:
    counts = _events_by_domain(offsets, domains)
    several = np.flatnonzero(np.count_nonzero(counts, axis=1) > 1)
    drawn = several[users_in_drawn_order(user_ids.gather(several), seed)]
    tested = round(len(drawn) * protocol.test_share)
    validated = round(len(drawn) * protocol.validation_share)
    withheld = np.full(len(user_ids), -1)
    tests = np.zeros(len(user_ids), bool)
    tests[drawn[:tested]] = True
    left_whole = 0
    for user in drawn[: tested + validated].tolist():
        domain = _drawn_domain(np.flatnonzero(counts[user]), user_ids[user], seed)
        if counts[user].sum() - counts[user, domain] < SHORTEST_TESTED:
            left_whole += 1
        else:
            withheld[user] = domain
    measured = int(np.count_nonzero(tests & (withheld >= 0)))
    if not measured:
        raise NothingHeldOutError(
            f"no domain can be withheld: of {len(several):,} users of several domains {tested:,} "
            f"were drawn to be tested, and none has {SHORTEST_TESTED} events left without the "
            "drawn domain; give a larger test_share, or data with more users of several domains"
        )
    cold = int(np.count_nonzero(withheld >= 0)) - measured
    notes = [
        f"held out by cold domain: of {len(several):,} users of several domains {measured:,} are "
        f"tested and {cold:,} validate, each on one domain whose events are withheld"
    ]
    if left_whole:
        notes.append(
            f"{left_whole:,} more were drawn and not measured: they have fewer than "
            f"{SHORTEST_TESTED} events without the drawn domain, and all their events train"
        )
    return withhold_domains(offsets, domains, withheld, tests), notes


def _events_by_domain(offsets: NDArray[np.int64], domains: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the number of events by user and domain, (users, domains)."""
    users, width = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), int(domains.max()) + 1
    cells = np.bincount(users * width + domains, minlength=(len(offsets) - 1) * width)
    return cells.reshape(-1, width)


def _drawn_domain(present: NDArray[np.int64], user: str, seed: int) -> int:
    """Returns one of a user's domains by a seeded hash of the user's id, independent of other users
    and of items."""
    digest = hashlib.sha256(f"{seed}:cold domain:{user}".encode()).digest()
    return int(present[int.from_bytes(digest[:8], "big") % len(present)])


def _given(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else round(in_utc(moment).timestamp() * SECOND)
