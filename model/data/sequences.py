"""Users' histories in CSR form, the input format of the model.

Items carry one global index: 0 is padding, and domain `d` owns the indices from `domain_starts[d] +
1` to `domain_starts[d + 1]`. A user's events are contiguous, oldest first, each with a mark of its
split.

Dimensions: U users, E events, D domains, R rows (prefixes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = 0, 1, 2

COLD_VALIDATION, COLD_TEST = 3, 4
"""Marks of events in a withheld domain (METHOD 9), at any position of a history."""

IntArray = NDArray[np.int64]


class InvalidSequencesError(ValueError):
    """The arrays are inconsistent; the message names the violated rule."""


@dataclass(frozen=True)
class Sequences:
    """Histories of U users in CSR form; user `u` owns the events `offsets[u]:offsets[u + 1]`."""

    offsets: IntArray  # (U + 1,)
    items: IntArray  # (E,) global item index, never 0
    split: NDArray[np.int8]  # (E,) marks; TRAIN to TEST never decrease within a user
    domain_starts: IntArray  # (D + 1,)
    domain_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, dtype in (
            ("offsets", np.int64),
            ("items", np.int64),
            ("domain_starts", np.int64),
        ):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        object.__setattr__(self, "split", np.ascontiguousarray(self.split, np.int8))
        _validate(self)

    @property
    def user_count(self) -> int:
        return len(self.offsets) - 1

    @property
    def item_count(self) -> int:
        """Number of items of all domains, without padding."""
        return int(self.domain_starts[-1])

    @property
    def domain_count(self) -> int:
        return len(self.domain_names)

    @property
    def event_users(self) -> IntArray:
        """Returns the user of each event, (E,)."""
        return np.repeat(np.arange(self.user_count), np.diff(self.offsets))

    def activity(self) -> NDArray[np.bool_]:
        """Returns whether each user has an event in each domain, (U, D)."""
        active = np.zeros((self.user_count, self.domain_count), bool)
        active[self.event_users, self.domain_of(self.items)] = True
        return active

    def users_of_several(self, domain: int) -> IntArray:
        """Returns the users with events inside and outside of a domain, ascending."""
        active = self.activity()
        return np.flatnonzero(active[:, domain] & (active.sum(axis=1) > 1))

    def domain_size(self, domain: int) -> int:
        return int(self.domain_starts[domain + 1] - self.domain_starts[domain])

    def domain_of(self, items: IntArray) -> IntArray:
        """Returns the domain of each global item index (no padding)."""
        return np.searchsorted(self.domain_starts, items, side="left") - 1

    def training(self) -> Sequences:
        """Returns the users with their training events only, the input of fitting."""
        return self._only(self.split == TRAIN)

    def before_test(self) -> Sequences:
        """Returns the users with their training and validation events."""
        return self._only(self.split <= VALIDATION)

    def without_withheld(self) -> Sequences:
        """Returns the users without their events in withheld domains."""
        withheld = self.split >= COLD_VALIDATION
        return self._only(~withheld) if withheld.any() else self

    def _only(self, keep: NDArray[np.bool_]) -> Sequences:
        counted = np.concatenate(([0], np.cumsum(keep)))
        return replace(
            self, offsets=counted[self.offsets], items=self.items[keep], split=self.split[keep]
        )

    def with_validation_in_training(self) -> Sequences:
        """Returns the events with validation marked as training."""
        return replace(self, split=np.where(self.split == VALIDATION, TRAIN, self.split))

    def prefixes_of_split(self, split: int) -> Prefixes:
        """Returns one row per event of `split`: its prefix is all earlier events of its user.

        The prefix of a test event therefore includes the validation event and earlier test events.
        A user's first event is never a target, because it has no prefix. Events of withheld domains
        are in no prefix.
        """
        seen = self.without_withheld()
        is_asked = seen.split == split
        is_asked[seen.offsets[:-1][np.diff(seen.offsets) > 0]] = False
        events = np.flatnonzero(is_asked)
        return Prefixes(seen, seen.event_users[events], events, seen.items[events])

    def prefixes_of_withheld(self, split: int) -> Prefixes:
        """Returns one row per user and distinct withheld item, in the order of the withheld events,
        with the user's whole remaining history as prefix.

        ``split`` is COLD_VALIDATION or COLD_TEST. A user's rows are contiguous, the first one is
        the first withheld event.
        """
        seen = self.without_withheld()
        events = np.flatnonzero(self.split == split)
        users, items = self.event_users[events], self.items[events]
        _, first = np.unique(users * (self.item_count + 1) + items, return_index=True)
        first.sort()
        users = users[first]
        return Prefixes(seen, users, seen.offsets[users + 1], items[first])

    def prefixes_of_users(self, users: IntArray) -> Prefixes:
        """Returns one row per user with the whole history as prefix, without a target."""
        users = np.asarray(users, np.int64)
        return Prefixes(self, users, self.offsets[users + 1], np.zeros(len(users), np.int64))


@dataclass(frozen=True)
class Prefixes:
    """R prefixes to predict the next item of: row `r` has its user's events before event
    `stop[r]`."""

    sequences: Sequences
    users: IntArray  # (R,)
    stop: IntArray  # (R,) exclusive event index into `sequences.items`
    targets: IntArray  # (R,) the next item, 0 if unknown

    def __len__(self) -> int:
        return len(self.users)

    @property
    def start(self) -> IntArray:
        return self.sequences.offsets[self.users]

    def events(self) -> tuple[IntArray, IntArray]:
        """Returns the event index and the row of every event of the prefixes, row by row."""
        return concatenate_ranges(self.start, self.stop)

    def items(self) -> tuple[IntArray, IntArray]:
        """Returns the row and the item of every event of the prefixes, row by row."""
        events, rows = self.events()
        return rows, self.sequences.items[events]

    def columns_in(self, domain: int) -> tuple[IntArray, IntArray]:
        """Returns the row and the column (item within the domain, from 0) of every event of
        `domain` in the prefixes."""
        low, high = self.sequences.domain_starts[domain : domain + 2].tolist()
        rows, items = self.items()
        own = (items > low) & (items <= high)
        return rows[own], items[own] - low - 1

    def domains_seen(self) -> NDArray[np.bool_]:
        """Returns whether each prefix has an event in each domain, (R, D)."""
        rows, items = self.items()
        seen = np.zeros((len(self), self.sequences.domain_count), bool)
        seen[rows, self.sequences.domain_of(items)] = True
        return seen

    def select(self, rows: IntArray) -> Prefixes:
        return Prefixes(self.sequences, self.users[rows], self.stop[rows], self.targets[rows])

    def sampled_rows(self, limit: int | None, rng: np.random.Generator) -> IntArray:
        """Returns `limit` of the rows, sampled without replacement, ascending; all if there are no
        more.

        In that case `rng` is not used.
        """
        if limit is None or len(self) <= limit:
            return np.arange(len(self))
        return np.sort(rng.choice(len(self), limit, replace=False))

    def of_domain(self, domain: int) -> Prefixes:
        """Returns the rows with a target in `domain`."""
        low, high = self.sequences.domain_starts[domain], self.sequences.domain_starts[domain + 1]
        return self.select(np.flatnonzero((self.targets > low) & (self.targets <= high)))


def concatenate_ranges(start: IntArray, stop: IntArray) -> tuple[IntArray, IntArray]:
    """Returns the concatenated integers of the ranges `start[r]:stop[r]`, and the row of each.

    >>> concatenate_ranges(np.array([4, 9]), np.array([6, 10]))
    (array([4, 5, 9]), array([0, 0, 1]))
    """
    lengths = np.maximum(stop - start, 0)
    rows = np.repeat(np.arange(len(start)), lengths)
    ends = np.cumsum(lengths)
    values = np.arange(len(rows)) - np.repeat(ends - lengths, lengths) + start[rows]
    return values, rows


def sequences_from_lists(
    histories: Sequence[Sequence[int]],
    domain_starts: Sequence[int],
    domain_names: tuple[str, ...],
    held_out: int = 0,
) -> Sequences:
    """Returns small histories from lists; `held_out=2` is leave-one-out for users with at least 3
    events."""
    splits = [_leave_out(len(history), held_out) for history in histories]
    return Sequences(
        offsets=np.concatenate(([0], np.cumsum([len(h) for h in histories]))).astype(np.int64),
        items=np.array([item for history in histories for item in history], np.int64),
        split=np.array([mark for marks in splits for mark in marks], np.int8),
        domain_starts=np.array(domain_starts, np.int64),
        domain_names=domain_names,
    )


def _leave_out(length: int, held_out: int) -> list[int]:
    if length < 3 or held_out == 0:
        return [TRAIN] * length
    return [TRAIN] * (length - held_out) + [VALIDATION, TEST][-held_out:]


def _validate(sequences: Sequences) -> None:
    offsets, items, split = sequences.offsets, sequences.items, sequences.split
    starts = sequences.domain_starts
    if offsets[0] != 0 or offsets[-1] != len(items) or np.any(np.diff(offsets) < 0):
        raise InvalidSequencesError(f"offsets must rise from 0 to the {len(items)} events")
    if len(split) != len(items):
        raise InvalidSequencesError(f"{len(split)} split marks for {len(items)} events")
    if len(starts) != len(sequences.domain_names) + 1 or starts[0] != 0:
        raise InvalidSequencesError(
            f"domain_starts has {len(starts)} entries for {len(sequences.domain_names)} domains; "
            "one more than domains is needed, the first being 0"
        )
    if np.any(np.diff(starts) < 1):
        raise InvalidSequencesError(
            f"every domain needs an item; domain_starts is {starts.tolist()}"
        )
    if len(items) and (items.min() < 1 or items.max() > starts[-1]):
        raise InvalidSequencesError(
            f"item indices {items.min()}..{items.max()} leave the catalogue 1..{starts[-1]}"
        )
    kept = np.flatnonzero(split < COLD_VALIDATION)
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[kept]
    falls = (np.diff(split[kept]) < 0) & (np.diff(users) == 0)
    if falls.any():
        event = int(kept[np.flatnonzero(falls)[0] + 1])
        raise InvalidSequencesError(
            f"event {event} precedes its user's earlier split: training comes before validation, "
            "validation before test"
        )
