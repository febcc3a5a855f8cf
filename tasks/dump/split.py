"""Marks the events of a dataset as training, validation or test, by the protocol asked for."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts.dataset import Split
from model.splits import SplitArray, leave_one_out, moments_of_shares, split_by_time, split_by_user
from tasks.dump.columns import SECOND
from tasks.dump.config import ByTime, ByUser, LeaveOneOut, in_utc
from tasks.dump.event_sieve import users_in_drawn_order


class NothingHeldOut(ValueError):
    """A split by time leaves nothing to train on, or nothing to test."""


def split_events(
    protocol: LeaveOneOut | ByTime | ByUser,
    offsets: NDArray[np.int64],
    times: NDArray[np.int64],
    user_ids: pl.Series,
    seed: int,
) -> tuple[SplitArray, list[str]]:
    """Returns a mark an event, and what a reader of the figures must know of them.

    Args:
        protocol: which events are held out.
        offsets: (users + 1,), the events of each user.
        times: (events,) microseconds.
        user_ids: (users,).
        seed: draws the users that are held out.

    Raises:
        NothingHeldOut.
    """
    match protocol:
        case LeaveOneOut():
            return leave_one_out(offsets), []
        case ByTime():
            return _by_time(protocol, times)
        case ByUser():
            return _by_user(protocol, offsets, user_ids, seed)


def _by_time(protocol: ByTime, times: NDArray[np.int64]) -> tuple[SplitArray, list[str]]:
    validation, test = moments_of_shares(times, protocol.validation_share, protocol.test_share)
    validation = _given(protocol.validation_from, validation)
    test = _given(protocol.test_from, test)
    marks = split_by_time(times, validation, test)
    for split, what in ((Split.TRAIN, "train on"), (Split.TEST, "test")):
        if not np.any(marks == split):
            raise NothingHeldOut(
                f"validation from {_day(validation)} and test from {_day(test)} leave nothing to "
                f"{what}: the events reach from {_day(times.min())} to {_day(times.max())}; give "
                "other moments, or leave them out"
            )
    return marks, [
        f"held out by time: validation events from {_day(validation)} on, test events from "
        f"{_day(test)} on, training sees nothing later"
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


def _given(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else round(in_utc(moment).timestamp() * SECOND)


def _day(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) / SECOND, UTC).isoformat(" ", "seconds")
