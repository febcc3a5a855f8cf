"""Reads the interactions of a dump, batch by batch, into three arrays of numbers.

Ids become numbers as they are met, so that what memory holds of an event is 16 bytes, whatever
its ids look like and however large the files are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from tasks.dump.batch import ROW, Batch
from tasks.dump.dump_config import ITEM_KEY, DumpConfig, Source
from tasks.dump.files import UnreadableDump
from tasks.dump.forms import INTERACTION_NAMES, open_interactions
from tasks.dump.normalize import SECOND, Unit, identifiers, microseconds, unit_of
from tasks.dump.rows import Quarantine, parted, renamed
from tasks.dump.text_order import text_order
from tasks.frame.progress import LOG_EVERY_SECONDS, logger

NOT_ASKED_FOR = "domain not asked for"
OUTSIDE_WINDOW = "outside the window"

_DATED = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp()) * SECOND
"""In a file of dates after this, a time of zero or less means that nobody knew the time."""

_SHARDS = 256

_BETWEEN = "\x1f"
"""Stands between domain and item id; ids hold no control characters."""


class UnknownDomain(ValueError):
    """A domain was asked for that has no event in the dump."""


@dataclass(frozen=True)
class RawEvents:
    """All usable events in the order of the dump, ids as numbers.

    Attributes:
        users: uint32 (events,), rows of ``user_ids``.
        items: uint32 (events,), rows of ``item_keys``.
        times: int64 (events,), microseconds since 1970 UTC.
        user_ids: all users, sorted.
        item_keys: ``domain, item_id`` of all items, sorted.
    """

    users: NDArray[np.uint32]
    items: NDArray[np.uint32]
    times: NDArray[np.int64]
    user_ids: pl.Series
    item_keys: pl.DataFrame


@dataclass(frozen=True)
class ReadEvents:
    """What reading gave: events, rows in, and rows dropped by a rule of the settings."""

    events: RawEvents
    rows_in: int
    dropped: dict[str, int]


def read_events(config: DumpConfig, quarantine: Quarantine) -> ReadEvents:
    """Reads the interactions of all files; unusable rows go to the quarantine.

    Raises:
        UnreadableDump, UnknownDomain.
    """
    collected = _Collected()
    rows_in = 0
    dropped: Counter[str] = Counter({NOT_ASKED_FOR: 0, OUTSIDE_WINDOW: 0})
    domains: Counter[str] = Counter()
    told = monotonic()
    for source in config.files:
        name = "interactions" if source.domain is None else f"interactions of {source.domain}"
        for usable, bad in _Reader(source).batches():
            rows_in += usable.height + bad.height
            told = _tell(rows_in, source.interactions, told)
            quarantine.add(name, bad)
            for domain, count in usable[col.DOMAIN].value_counts().iter_rows():
                domains[domain] += count
            collected.add(_chosen(usable, config, dropped))
    if not rows_in:
        files = ", ".join(source.interactions for source in config.files)
        raise UnreadableDump(f"{files} cannot be read: there is no event in it; export it again")
    _require_domains(config, domains)
    return ReadEvents(collected.events(), rows_in, dict(dropped))


def _tell(rows: int, path: str, told: float) -> float:
    """Says now and then how far reading has come; returns when it last did."""
    if monotonic() - told < LOG_EVERY_SECONDS:
        return told
    logger.info("ingest: %s rows read, now of %s", f"{rows:,}", Path(path).name)
    return monotonic()


class _Reader:
    """One file of interactions; what its first rows tell of its times holds for all."""

    def __init__(self, source: Source) -> None:
        self._table = open_interactions(source.interactions, source.form)
        self._domain = source.domain
        needed = [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]
        if source.domain is None:
            needed.append(col.DOMAIN)
        names = {**INTERACTION_NAMES[source.form], **source.columns}
        self._columns = renamed(source.interactions, self._table, names, needed, needed)
        self._unit: Unit | None = None
        self._unknown_up_to: int | None = None
        self._latest = int((datetime.now(UTC) + timedelta(days=1)).timestamp()) * SECOND

    def batches(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Gives usable rows, and those that are not, with their reason."""
        for batch in self._table.batches(self._columns):
            rows = self._in_our_form(batch)
            usable, bad = parted(rows, self._rules())
            yield usable, pl.concat([batch.broken, bad], how="diagonal").sort(ROW)

    def _in_our_form(self, batch: Batch) -> pl.DataFrame:
        rows = batch.rows
        times = rows[col.TIMESTAMP]
        self._unit = self._unit or unit_of(times)
        moments = microseconds(times, self._unit or Unit.SECONDS)
        if self._unknown_up_to is None:
            median = moments.median()
            self._unknown_up_to = 0 if isinstance(median, float) and median > _DATED else None
        domain = (
            identifiers(rows[col.DOMAIN])
            if self._domain is None
            else pl.lit(self._domain).alias(col.DOMAIN)
        )
        return rows.select(
            pl.col(ROW),
            identifiers(rows[col.USER_ID]),
            identifiers(rows[col.ITEM_ID]),
            domain,
            moments.alias(col.TIMESTAMP),
        )

    def _rules(self) -> Mapping[str, pl.Expr]:
        moment = pl.col(col.TIMESTAMP)
        rules = {
            "no user_id": pl.col(col.USER_ID).is_null(),
            "no item_id": pl.col(col.ITEM_ID).is_null(),
            "no domain": pl.col(col.DOMAIN).is_null(),
            "no usable timestamp": moment.is_null(),
            "timestamp in the future": moment > self._latest,
        }
        if self._unknown_up_to is not None:
            rules["timestamp of zero or less"] = moment <= self._unknown_up_to
        return rules


def _chosen(rows: pl.DataFrame, config: DumpConfig, dropped: Counter[str]) -> pl.DataFrame:
    """Returns the rows of the asked domains and days, the others counted."""
    day = 86_400 * SECOND
    rules: dict[str, pl.Expr] = {}
    if config.domains is not None:
        rules[NOT_ASKED_FOR] = ~pl.col(col.DOMAIN).is_in(list(config.domains))
    if config.since is not None:
        rules[OUTSIDE_WINDOW] = pl.col(col.TIMESTAMP) < _midnight(config.since)
    if config.until is not None:
        late = pl.col(col.TIMESTAMP) >= _midnight(config.until) + day
        rules[OUTSIDE_WINDOW] = rules.get(OUTSIDE_WINDOW, pl.lit(False)) | late
    if not rules:
        return rows
    kept, others = parted(rows, rules)
    dropped.update(dict(others[col.REASON].value_counts().iter_rows()))
    return kept


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * SECOND


def _require_domains(config: DumpConfig, found: Counter[str]) -> None:
    unknown = [domain for domain in config.domains or () if not found[domain]]
    if unknown:
        most = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
        there = ", ".join(f"{domain} ({count:,} events)" for domain, count in most)
        raise UnknownDomain(
            f"the dump has no event of the domain {', '.join(unknown)}; correct --domain: "
            f"it has {there or 'none'}"
        )


class _Collected:
    """Events as they come, ids numbered in the order in which they are met."""

    def __init__(self) -> None:
        self._users = _Numbering()
        self._items = _Numbering()
        self._times: list[NDArray[np.int64]] = []

    def add(self, rows: pl.DataFrame) -> None:
        self._users.add(rows[col.USER_ID])
        key = pl.concat_str(*ITEM_KEY, separator=_BETWEEN)
        self._items.add(rows.select(key).to_series())
        self._times.append(rows[col.TIMESTAMP].to_numpy())

    def events(self) -> RawEvents:
        """Returns all events; to be called once, the parts are let go."""
        users, user_ids = self._users.sorted()
        items, keys = self._items.sorted()
        parts = pl.DataFrame({"key": keys}).select(
            pl.col("key").str.splitn(_BETWEEN, 2).struct.rename_fields(list(ITEM_KEY))
        )
        times, self._times = [np.empty(0, np.int64), *self._times], []
        return RawEvents(users, items, np.concatenate(times), user_ids, parts.unnest("key"))


class _Numbering:
    """Texts to numbers: Polars' categories, of which each text is kept once.

    Texts are dealt to shards by their hash, each with categories of its own: what looks up one
    shard's texts of a batch then stays in the processor's cache, however many texts there are.
    """

    def __init__(self) -> None:
        self._types = [
            pl.Categorical(pl.Categories.random(physical=pl.UInt32)) for _ in range(_SHARDS)
        ]
        # Polars forgets categories that no series uses, and with them what the numbers mean.
        self._in_use = [pl.Series([], dtype=kind) for kind in self._types]
        self._sizes = np.zeros(_SHARDS, np.int64)
        self._codes: list[NDArray[np.uint32]] = []

    def add(self, texts: pl.Series) -> None:
        shards = (texts.hash() % _SHARDS).cast(pl.UInt16).to_numpy()
        order = np.argsort(shards, kind="stable")  # A radix sort for numbers of 16 bits.
        dealt = texts.gather(order)
        codes = np.empty(len(texts), np.uint32)
        ends = np.cumsum(np.bincount(shards, minlength=_SHARDS)).tolist()
        for shard, (begin, end) in enumerate(pairwise([0, *ends])):
            if begin == end:
                continue
            texts_of_shard = dealt.slice(begin, end - begin).cast(self._types[shard])
            places = texts_of_shard.to_physical().to_numpy()
            self._sizes[shard] = max(self._sizes[shard], int(places.max()) + 1)
            codes[order[begin:end]] = places * np.uint32(_SHARDS) + np.uint32(shard)
        self._codes.append(codes)

    def sorted(self) -> tuple[NDArray[np.uint32], pl.Series]:
        """Returns the number of every text in the order of all texts, and that order."""
        codes = np.concatenate([np.empty(0, np.uint32), *self._codes])
        self._codes = []
        # Categories are numbered from 0 as they are met, so a shard's are all below its size.
        places = [np.arange(size, dtype=np.uint32) for size in self._sizes]
        texts = pl.concat(
            pl.Series(mine).cat.to(kind).cast(pl.String)
            for mine, kind in zip(places, self._types, strict=True)
        )
        assert not texts.null_count(), "a number below a shard's size is nobody's category"
        shards = np.repeat(np.arange(_SHARDS, dtype=np.uint32), self._sizes)
        met = np.concatenate(places) * np.uint32(_SHARDS) + shards
        order = text_order(texts)
        rank = np.zeros(int(met.max(initial=0)) + 1, np.uint32)
        rank[met[order]] = np.arange(len(met), dtype=np.uint32)
        return rank[codes], texts.gather(order)
