"""Generated data of two shops from a seed, for the demo and tests.

The files resemble a real export with defects: missing prices and descriptions, HTML entities,
events of removed items, duplicate rows, items without purchases, unordered rows. Histories have
learnable structure: drifting interests common to both shops, popularity, and follow-up purchases.
Some customers of one shop enter the other at the end, with the same interests.
"""

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tasks.demo.demo_items import BOOKS, GEAR, DemoItem, stock_shops

_FIRST_DAY = 1_704_067_200  # 2024-01-01 00:00 UTC
_DAY = 86_400
_SHORTEST, _LONGEST = 5, 60
_LENGTH_MU, _LENGTH_SIGMA = 2.37, 0.5  # of the log-normal: a mean of 12 events
_FOLLOW, _CROSS, _STRAY = 0.55, 0.25, 0.1
_BOTH, _MOVERS = 0.3, 0.24
"""Shares of users: customers of both shops, and customers who enter the other shop at the end."""
_FIRST_VISIT, _MOST_MOVED = 0.7, 3
"""Share of the latter with one event in the other shop, and maximum events there."""
_REPEAT = 0.02
_SECOND_FOLLOW_UP = 0.25
_COLD_SHARE = 0.03
_GONE_SHARE, _GONE_ITEMS = 0.003, 4
_DUPLICATE_SHARE = 0.005
_DAYS_BETWEEN, _DAYS_TO_FOLLOW = 14.0, 4.0

_EVENT_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "domain": pl.String,
                 "timestamp": pl.Int64}  # fmt: skip
_ITEM_SCHEMA = {
    "item_id": pl.String,
    "domain": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "price": pl.Float64,
    "description": pl.String,
}

Event = tuple[str, str, str, int]
"""User, item, domain, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class DemoDump:
    """The written files and the number of users, items (rows) and events (rows) in them."""

    interactions: Path
    items: Path
    user_count: int
    item_count: int
    event_count: int


class _Shops:
    """Items with indices for sampling."""

    def __init__(self, items: list[DemoItem], generator: random.Random) -> None:
        self.by_id = {item.item_id: item for item in items}
        cold = set(generator.sample(sorted(self.by_id), round(_COLD_SHARE * len(items))))
        self.sold = [item for item in items if item.item_id not in cold]
        self.shelves: dict[tuple[str, str], list[DemoItem]] = defaultdict(list)
        self.topics: dict[str, list[str]] = defaultdict(list)
        for item in self.sold:
            self.shelves[item.domain, item.topic].append(item)
            if item.topic not in self.topics[item.interest]:
                self.topics[item.interest].append(item.topic)
        self.cold = cold
        # Random purchases take these first, to limit the number of unsold items.
        self.unsold = generator.sample(self.sold, len(self.sold))


@dataclass(frozen=True, slots=True)
class _Customer:
    """Topics with their weights at the start and at the end of the history."""

    user_id: str
    gear_share: float
    moved: int
    """Number of last events in the other shop."""
    topics: list[str]
    early: list[float]
    late: list[float]

    def choose_domain(self, generator: random.Random, left: int) -> str:
        """Returns the shop of the next event; ``left`` events remain, including this one."""
        is_gear = generator.random() < self.gear_share
        return GEAR if is_gear != (left <= self.moved) else BOOKS

    def choose_topic(self, generator: random.Random, progress: float) -> str:
        weights = [
            (1 - progress) * early + progress * late
            for early, late in zip(self.early, self.late, strict=True)
        ]
        return generator.choices(self.topics, weights)[0]


def write_demo_dump(
    directory: Path, *, seed: int = 7, users: int = 400, items: int = 600
) -> DemoDump:
    """Writes `interactions.parquet` and `items.parquet` into the directory, created if missing.

    The same arguments give the same bytes. Domains are `gear` and `books`; about half of
    the users have bought in both. Raises ImpossibleCatalogueSizeError.
    """
    catalogue = stock_shops(seed, items)
    shops = _Shops(catalogue, random.Random(f"{seed}/shops"))
    events: list[Event] = []
    for number in range(users):
        events += _history(shops, random.Random(f"{seed}/user/{number}"), _user_id(seed, number))
    rows = _blemish(events, random.Random(f"{seed}/rows"))

    directory.mkdir(parents=True, exist_ok=True)
    interactions_path, items_path = directory / "interactions.parquet", directory / "items.parquet"
    pl.DataFrame(rows, schema=_EVENT_SCHEMA, orient="row").write_parquet(interactions_path)
    _item_table(catalogue, seed).write_parquet(items_path)
    return DemoDump(interactions_path, items_path, users, len(catalogue), len(rows))


def _history(shops: _Shops, generator: random.Random, user_id: str) -> list[Event]:
    customer = _meet(shops, generator, user_id)
    drawn = round(generator.lognormvariate(_LENGTH_MU, _LENGTH_SIGMA))
    length = min(max(drawn, _SHORTEST), _LONGEST)
    clock = _FIRST_DAY + generator.uniform(0, 500) * _DAY
    events: list[Event] = []
    latest: dict[str, DemoItem] = {}
    owned: set[str] = set()
    previous: DemoItem | None = None
    for position in range(length):
        domain = customer.choose_domain(generator, length - position)
        led_to = _led_to(shops, generator, domain, latest.get(domain), previous)
        if led_to is not None and (led_to.item_id in owned or led_to.item_id in shops.cold):
            led_to = None
        item = led_to or _choose(shops, generator, customer, domain, position / length, owned)
        pause = _DAYS_TO_FOLLOW if led_to else _DAYS_BETWEEN
        clock += 60 + generator.expovariate(1 / (pause * _DAY))
        events.append((user_id, item.item_id, domain, int(clock)))
        owned.add(item.item_id)
        latest[domain] = previous = item
    return events


def _meet(shops: _Shops, generator: random.Random, user_id: str) -> _Customer:
    """Returns a customer with one to three interests of different popularity."""
    kind = generator.random()
    is_both = kind < _BOTH
    gear_share = generator.uniform(0.3, 0.7) if is_both else float(generator.random() < 0.5)
    moved = 0
    if _BOTH <= kind < _BOTH + _MOVERS:
        once = generator.random() < _FIRST_VISIT
        moved = 1 if once else generator.randint(2, _MOST_MOVED)
    wanted = generator.choices((1, 2, 3), (0.4, 0.4, 0.2))[0]
    names = sorted(shops.topics)
    popularity = [1 / (1 + 0.35 * rank) for rank in range(len(names))]
    interests = list(dict.fromkeys(generator.choices(names, popularity, k=wanted)))
    topics: list[str] = []
    for interest in interests:
        among = shops.topics[interest]
        topics += generator.sample(among, min(len(among), generator.choice((1, 2, 3))))
    early = [generator.expovariate(1) for _ in topics]
    late = [generator.expovariate(1) for _ in topics]
    return _Customer(user_id, gear_share, moved, topics, early, late)


def _led_to(
    shops: _Shops,
    generator: random.Random,
    domain: str,
    last_here: DemoItem | None,
    previous: DemoItem | None,
) -> DemoItem | None:
    """Returns a follow-up of an earlier purchase: next volume, accessory, or related book."""
    crossing = previous is not None and previous.domain != domain
    if crossing and previous is not None and previous.companion and generator.random() < _CROSS:
        return shops.by_id[previous.companion]
    if last_here is None or not last_here.follow_ups or generator.random() >= _FOLLOW:
        return None
    second = len(last_here.follow_ups) > 1 and generator.random() < _SECOND_FOLLOW_UP
    return shops.by_id[last_here.follow_ups[int(second)]]


def _choose(
    shops: _Shops,
    generator: random.Random,
    customer: _Customer,
    domain: str,
    progress: float,
    owned: set[str],
) -> DemoItem:
    """Returns a popular item of a topic of interest, or rarely a random item."""
    if generator.random() < _STRAY:
        return _stray(shops, generator, domain)
    shelf = shops.shelves[domain, customer.choose_topic(generator, progress)]
    fresh = [item for item in shelf if item.item_id not in owned]
    among = shelf if generator.random() < _REPEAT else fresh
    if not among:
        return _stray(shops, generator, domain)
    return generator.choices(among, [item.weight for item in among])[0]


def _stray(shops: _Shops, generator: random.Random, domain: str) -> DemoItem:
    for index, item in enumerate(shops.unsold):
        if item.domain == domain:
            return shops.unsold.pop(index)
    return generator.choice([item for item in shops.sold if item.domain == domain])


def _blemish(events: list[Event], generator: random.Random) -> list[Event]:
    """Adds events of unknown items and duplicates, and shuffles rows."""
    gone = [f"G0D15C0{number:04d}" for number in range(_GONE_ITEMS)]
    buyers = [event for event in events if event[2] == GEAR]
    strange = [
        (user, generator.choice(gone), domain, time + 3600)
        for user, _, domain, time in _sample(generator, buyers, _GONE_SHARE)
    ]
    rows = events + strange + _sample(generator, events, _DUPLICATE_SHARE)
    generator.shuffle(rows)
    return rows


def _sample(generator: random.Random, events: list[Event], share: float) -> list[Event]:
    wanted = round(share * len(events)) + 1
    return generator.sample(events, min(wanted, len(events)))


def _item_table(catalogue: list[DemoItem], seed: int) -> pl.DataFrame:
    rows = [
        (item.item_id, item.domain, item.title, item.brand, item.categories, item.price,
         item.description)
        for item in catalogue
    ]  # fmt: skip
    random.Random(f"{seed}/items").shuffle(rows)
    return pl.DataFrame(rows, schema=_ITEM_SCHEMA, orient="row")


def _user_id(seed: int, number: int) -> str:
    return "u" + hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=6).hexdigest()
