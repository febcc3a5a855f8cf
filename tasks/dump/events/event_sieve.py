"""Ordering of events by user and time, and filters by named rules.

Every rule counts its dropped events: events in = events kept + events dropped.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.forgotten import FORGOTTEN_RULE
from tasks.dump.dump_config import DumpConfig, Repeats, Ties
from tasks.dump.events.event_numbers import RawEvents
from tasks.dump.rows import AreForgotten, nobody

REPEATED = "repeated row"
CHOSEN_BEFORE = "item chosen before"
NOT_SAMPLED = "user not in the sample"
ITEM_CORE = "item below its core"
USER_CORE = "user below its core"


_BUCKET_EVENTS = 1 << 16
_MOST_BUCKETS = 1 << 16
"""Number of values of 16 bits."""


class Sieve:
    """Events by user, then time, then the order of ties; see `RawEvents` for the arrays.

    ``sources`` (events,): index into `RawEvents.sources`, for the accounts of dropped events.
    """

    def __init__(self, events: RawEvents, order: NDArray[np.intp]) -> None:
        self.users = events.users[order]
        self.items = events.items[order]
        self.times = events.times[order]
        self.sources = np.searchsorted(events.ends, order, side="right").astype(np.uint16)
        self._accounts = [account for account, _ in events.sources]
        self.dropped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.users)

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """Returns the mask of events of the dump (not of the merged dataset), (events,)."""
        return np.array([account is not None for account in self._accounts])[self.sources]

    def keep(self, rule: str, mask: NDArray[np.bool_]) -> None:
        """Keeps the events of ``mask``; counts the others under ``rule``."""
        gone = len(mask) - int(np.count_nonzero(mask))
        self.dropped[rule] = self.dropped.get(rule, 0) + gone
        if gone:
            counts = np.bincount(self.sources[~mask], minlength=len(self._accounts)).tolist()
            for account, count in zip(self._accounts, counts, strict=True):
                if account is not None and count:
                    account.drop(rule, count)
            self.users, self.items = self.users[mask], self.items[mask]
            self.times, self.sources = self.times[mask], self.sources[mask]


def sifted(events: RawEvents, config: DumpConfig, forgotten: AreForgotten = nobody) -> Sieve:
    """Returns the ordered and filtered events, without forgotten users."""
    files = sum(account is not None for account, _ in events.sources)
    sieve = Sieve(events, ordered(events, config.tie_order(files), config.seed))
    if (gone := forgotten(events.user_ids).to_numpy()).any():
        sieve.keep(FORGOTTEN_RULE, ~gone[sieve.users])
    sieve.keep(REPEATED, ~repeats_of_moment(sieve))
    if config.repeats is Repeats.FIRST:
        sieve.keep(CHOSEN_BEFORE, _is_first(sieve))
    if config.max_users is not None:
        sieve.keep(NOT_SAMPLED, _sampled(events.user_ids, config)[sieve.users])
    _keep_cores(sieve, config)
    return sieve


def ordered(events: RawEvents, ties: Ties, seed: int) -> NDArray[np.intp]:
    """Returns the order of all events by user, time and tie rule."""
    if ties is Ties.DUMP:
        return by_user(events.users, (events.times,))
    return by_user(events.users, (shuffled_key(events, seed), events.times))


def by_user(users: NDArray[np.uint32], keys: Sequence[NDArray]) -> NDArray[np.intp]:
    """Returns ``np.lexsort((*keys, users))`` in linear time.

    Events are bucketed by user ranges, and each bucket is sorted in the processor's cache: twice as
    fast for ten million events.
    """
    count = min(1 + len(users) // _BUCKET_EVENTS, _MOST_BUCKETS)
    width = 1 + int(users.max(initial=0)) // count
    buckets = (users // np.uint32(width)).astype(np.uint16)
    order = np.argsort(buckets, kind="stable")  # A radix sort for numbers of 16 bits.
    ends = np.cumsum(np.bincount(buckets, minlength=1))
    for begin, end in pairwise([0, *ends.tolist()]):
        places = order[begin:end]
        order[begin:end] = places[np.lexsort((*(key[places] for key in keys), users[places]))]
    return order


def shuffled_key(events: RawEvents, seed: int) -> NDArray[np.uint64]:
    """Returns a random number per event from the seed, user, item and time.

    It is independent of the order of rows and of other users. It depends on the user, so the order
    of two items differs between users.
    """
    users = _hashes(events.user_ids.to_list(), f"{seed}:user")[events.users]
    names = events.item_keys.select(pl.concat_str(col.DOMAIN, col.ITEM_ID, separator="\x1f"))
    items = _hashes(names.to_series().to_list(), f"{seed}:item")[events.items]
    return _mixed(users ^ _mixed(items + _mixed(events.times.astype(np.uint64))))


def repeats_of_moment(sieve: Sieve) -> NDArray[np.bool_]:
    """Returns the mask of events that repeat user, time and item of an earlier one."""
    same = np.zeros(len(sieve), bool)
    same[1:] = (sieve.users[1:] == sieve.users[:-1]) & (sieve.times[1:] == sieve.times[:-1])
    in_tie = same.copy()
    in_tie[:-1] |= same[1:]
    places = np.flatnonzero(in_tie)
    moment = np.cumsum(~same[places]).astype(np.uint64)
    key = (moment << np.uint64(32)) | sieve.items[places]
    repeats = np.zeros(len(sieve), bool)
    repeats[places] = ~pl.Series(key).is_first_distinct().to_numpy()
    return repeats


def _is_first(sieve: Sieve) -> NDArray[np.bool_]:
    key = (sieve.users.astype(np.uint64) << np.uint64(32)) | sieve.items
    return pl.Series(key).is_first_distinct().to_numpy()


def _sampled(user_ids: pl.Series, config: DumpConfig) -> NDArray[np.bool_]:
    chosen = np.zeros(len(user_ids), bool)
    chosen[users_in_drawn_order(user_ids, config.seed)[: config.max_users]] = True
    return chosen


def users_in_drawn_order(user_ids: pl.Series, seed: int) -> NDArray[np.intp]:
    """Returns users in the order of a seeded hash of their id, so larger samples contain smaller
    ones."""
    draw = [hashlib.sha256(f"{seed}:{user}".encode()).hexdigest() for user in user_ids]
    return pl.Series(draw, dtype=pl.String).arg_sort().to_numpy().astype(np.intp)


def _keep_cores(sieve: Sieve, config: DumpConfig) -> None:
    """Drops events until both cores hold."""
    before = -1
    while len(sieve) != before:
        before = len(sieve)
        if config.item_core > 1:
            sieve.keep(ITEM_CORE, _has(sieve.items, config.item_core))
        if config.user_core > 1:
            sieve.keep(USER_CORE, _has(sieve.users, config.user_core))


def _has(owners: NDArray[np.uint32], core: int) -> NDArray[np.bool_]:
    """Returns the mask of events of owners with enough events."""
    # A byte per owner is looked up for every event, which fits the cache.
    return (np.bincount(owners, minlength=1) >= core)[owners]


def _hashes(texts: list[str], salt: str) -> NDArray[np.uint64]:
    key = hashlib.sha256(salt.encode()).digest()
    digests = b"".join(
        hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in texts
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns the splitmix64 finalizer of the values."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
