"""Events in input order, with ids numbered by first occurrence."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from artifacts import columns as col
from tasks.dump.account import FileAccount
from tasks.dump.dump_config import ITEM_KEY

_SHARDS = 256

_BETWEEN = "\x1f"
"""Separator of domain and item id; ids contain no control characters."""


@dataclass(frozen=True)
class RawEvents:
    """All usable events in the order of the dump, ids as numbers.

    Attributes: users: uint32 (events,), rows of ``user_ids``. items: uint32 (events,), rows of
        ``item_keys``. times: int64 (events,), microseconds since 1970 UTC. user_ids: all users,
        sorted. item_keys: ``domain, item_id`` of all items, sorted. sources: origins of events in
        order, with their last event (exclusive); None is the merged dataset.
    """

    users: NDArray[np.uint32]
    items: NDArray[np.uint32]
    times: NDArray[np.int64]
    user_ids: pl.Series
    item_keys: pl.DataFrame
    sources: tuple[tuple[FileAccount | None, int], ...] = ()

    @property
    def ends(self) -> NDArray[np.int64]:
        """Returns the end (exclusive) of each source, (sources,)."""
        return np.array([end for _, end in self.sources], np.int64)


class EventNumbers:
    """Collects batches of events and converts their ids to numbers."""

    def __init__(self) -> None:
        self._users = _Numbering()
        self._items = _Numbering()
        self._times: list[NDArray[np.int64]] = []
        self._accounts: list[FileAccount] = []

    def add(self, rows: pl.DataFrame, account: FileAccount) -> None:
        self._users.add(rows[col.USER_ID])
        key = pl.concat_str(*ITEM_KEY, separator=_BETWEEN)
        self._items.add(rows.select(key).to_series())
        self._times.append(rows[col.TIMESTAMP].to_numpy())
        self._accounts.append(account)

    def mark(self) -> int:
        """Returns a mark for `go_back`."""
        return len(self._times)

    def go_back(self, mark: int) -> None:
        """Discards the events since a mark; their ids may remain without events."""
        for parts in (self._times, self._accounts, self._users.codes, self._items.codes):
            del parts[mark:]

    def events(self) -> RawEvents:
        """Returns all events; call once, because the parts are freed."""
        users, user_ids = self._users.sorted()
        items, keys = self._items.sorted()
        parts = pl.DataFrame({"key": keys}).select(
            pl.col("key").str.splitn(_BETWEEN, 2).struct.rename_fields(list(ITEM_KEY))
        )
        ends = np.cumsum([len(times) for times in self._times])
        sources: dict[int, tuple[FileAccount, int]] = {}
        for account, end in zip(self._accounts, ends.tolist(), strict=True):
            sources[id(account)] = account, end
        times, self._times = [np.empty(0, np.int64), *self._times], []
        return RawEvents(
            users,
            items,
            np.concatenate(times),
            user_ids,
            parts.unnest("key"),
            tuple(sources.values()),
        )


class _Numbering:
    """Text-to-number mapping by Polars categories.

    Texts are sharded by hash, each shard with its own categories, so that look-ups of a batch stay
    in the processor's cache.
    """

    def __init__(self) -> None:
        # Series keep their categories alive, because Polars drops unused ones. A small dump fills
        # few shards, and the others would take most of the time of its reading.
        self._shards = defaultdict[int, pl.Series](_empty_shard)
        self._sizes = np.zeros(_SHARDS, np.int64)
        self.codes: list[NDArray[np.uint32]] = []
        """Numbers of the texts of each batch."""

    def add(self, texts: pl.Series) -> None:
        shards = (texts.hash() % _SHARDS).cast(pl.UInt16).to_numpy()
        order = np.argsort(shards, kind="stable")  # A radix sort for numbers of 16 bits.
        dealt = texts.gather(order)
        codes = np.empty(len(texts), np.uint32)
        ends = np.cumsum(np.bincount(shards, minlength=_SHARDS)).tolist()
        for shard, (begin, end) in enumerate(pairwise([0, *ends])):
            if begin == end:
                continue
            texts_of_shard = dealt.slice(begin, end - begin).cast(self._shards[shard].dtype)
            places = texts_of_shard.to_physical().to_numpy()
            self._sizes[shard] = max(self._sizes[shard], int(places.max()) + 1)
            codes[order[begin:end]] = places * np.uint32(_SHARDS) + np.uint32(shard)
        self.codes.append(codes)

    def sorted(self) -> tuple[NDArray[np.uint32], pl.Series]:
        """Returns the rank of every text in sorted order, and that order."""
        codes = np.concatenate([np.empty(0, np.uint32), *self.codes])
        self.codes = []
        # Categories are numbered consecutively from 0.
        places, found = [np.empty(0, np.uint32)], [pl.Series([], dtype=pl.String)]
        for shard in np.flatnonzero(self._sizes).tolist():
            places.append(np.arange(self._sizes[shard], dtype=np.uint32))
            found.append(pl.Series(places[-1]).cat.to(self._shards[shard].dtype).cast(pl.String))
        texts = pl.concat(found)
        assert not texts.null_count(), "each number below a shard's size has a category"
        shards = np.repeat(np.arange(_SHARDS, dtype=np.uint32), self._sizes)
        met = np.concatenate(places) * np.uint32(_SHARDS) + shards
        order = text_order(texts)
        rank = np.zeros(int(met.max(initial=0)) + 1, np.uint32)
        rank[met[order]] = np.arange(len(met), dtype=np.uint32)
        return rank[codes], texts.gather(order)


def _empty_shard() -> pl.Series:
    return pl.Series([], dtype=pl.Categorical(pl.Categories.random(physical=pl.UInt32)))


_KEY_BYTES = 8


def text_order(texts: pl.Series) -> NDArray[np.int64]:
    """Returns the places (n,) of ``texts`` in ascending order of their bytes, like Polars' own
    ``arg_sort``. Texts must not be null or contain NUL; the order of equal texts is unspecified.

    For millions of unordered ids, random memory access dominates the cost of comparing texts. Eight
    bytes of an id as one integer distinguish nearly all ids and sort fast; only ids with equal
    integers are compared as texts.
    """
    if texts.len() < 2:
        return np.arange(texts.len())
    keys = _keys(texts, _common_prefix(texts))
    order = np.argsort(keys)
    alike = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(alike):
        slots = np.union1d(alike, alike + 1)
        # Keys and texts ascend together, so sorting these texts suffices.
        tied = order[slots]
        order[slots] = tied[texts.gather(tied).arg_sort().to_numpy()]
    return order


def _common_prefix(texts: pl.Series) -> int:
    """Returns the length of the common prefix, from the first and the last text."""
    least, most = str(texts.min()).encode(), str(texts.max()).encode()
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    return sum(1 for _ in alike)


def _keys(texts: pl.Series, skipped: int) -> NDArray[np.uint64]:
    """Returns eight bytes after the first ``skipped`` as big-endian integers, padded with zeros."""
    flat = texts.to_arrow().cast(pa.large_binary())
    _, offsets, data = flat.buffers()
    bounds = np.frombuffer(offsets, np.int64)[flat.offset : flat.offset + len(flat) + 1]
    content = np.zeros(int(bounds[-1]) + skipped + _KEY_BYTES, np.uint8)
    content[: bounds[-1]] = np.frombuffer(data, np.uint8)[: bounds[-1]]
    keys = np.zeros(len(flat), np.uint64)
    for place in range(skipped, skipped + _KEY_BYTES):
        at = bounds[:-1] + place
        keys = (keys << np.uint64(8)) | np.where(at < bounds[1:], content[at], 0).astype(np.uint64)
    return keys
