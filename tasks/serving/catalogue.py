"""The catalogue of a service: look-up of ids and indices, search, new items."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.kinds.results import RECOMMENDATION_SCHEMA
from artifacts.user_error import UserError
from model.data.sequences import IntArray
from model.scoring.top_k import Recommendations

TEXT_COLUMNS = {
    col.TITLE: pl.String,
    col.BRAND: pl.String,
    col.CATEGORIES: pl.List(pl.String),
    col.PRICE: pl.Float64,
    col.DESCRIPTION: pl.String,
    col.IMAGE: pl.String,
}
"""Metadata columns of items."""


LEAST_SIMILARITY = 0.8
"""Minimum similarity of a searched word to a word of a title: 1 is the same spelling."""
SHORTEST_MISSPELT = 4
MOST_SIMILAR = 5
MOST_COMPARED = 200
"""Words of titles that are compared with a searched one: those with most of its letter pairs."""


class UnknownItemError(LookupError):
    """The item is not in the catalogue."""


class AmbiguousItemError(LookupError):
    """Several domains have an item of that id, and no domain was given."""


class UnknownDomainError(UserError, LookupError):
    """The catalogue has no such domain."""


class InvalidItemsError(UserError, ValueError):
    """Invalid table of new items."""


class ItemKey(NamedTuple):
    """Unique key of an item; ids are unique within a domain only."""

    domain: str
    item_id: str


ItemName = str | ItemKey | tuple[str, str]
"""An item in a call: its id if unique, or (domain, id)."""


class Grown(NamedTuple):
    """An extended catalogue: `previous` (items + 1,) is each item's old index, 0 for new items."""

    catalogue: "Catalogue"
    previous: IntArray


@dataclass(frozen=True)
class Catalogue:
    """Items by index, grouped by domain.

    Attributes:
        items: the dataset's item table; row ``i`` is item ``i + 1``.
        domain_starts: int64 (domains + 1,), as in `artifacts.kinds.dataset.Dataset`.
        popularity: int64 (items + 1,) events of each item; 0 for new ones.
    """

    items: pl.DataFrame
    domains: tuple[str, ...]
    domain_starts: IntArray
    popularity: IntArray

    @cached_property
    def keys(self) -> list[ItemKey]:
        """Returns the key of each item; position ``i`` is item ``i + 1``."""
        return [ItemKey(*row) for row in self.items.select(col.DOMAIN, col.ITEM_ID).iter_rows()]

    @cached_property
    def titles(self) -> list[str | None]:
        """Returns the title of each item; position ``i`` is item ``i + 1``."""
        return self.items[col.TITLE].to_list()

    def domain_number(self, name: str) -> int:
        """Returns a domain's number; raises `UnknownDomainError`."""
        if name not in self.domains:
            raise UnknownDomainError(f"no domain {name!r}; there are {', '.join(self.domains)}")
        return self.domains.index(name)

    def domain_numbers(self, name: str | None) -> list[int]:
        """Returns the number of a domain in a list, all if None; raises `UnknownDomainError`."""
        return list(range(len(self.domains))) if name is None else [self.domain_number(name)]

    def domain_rows(self, domain: int) -> slice:
        """Returns the rows of `items` of a domain."""
        return slice(int(self.domain_starts[domain]), int(self.domain_starts[domain + 1]))

    def index(self, item: ItemName) -> int:
        """Returns an item's index; raises `UnknownItemError`, `AmbiguousItemError`, and TypeError
        for other names than a text and a pair of texts."""
        match item:
            case str():
                return self._index_of_unique(item)
            case (str(domain), str(item_id)):
                found = self._index_of_key.get((domain, item_id))
                if found is None:
                    raise UnknownItemError(
                        f"no item {item_id!r} in the domain {domain!r}{_WAY_OUT}"
                    )
                return found
            case _:
                raise TypeError(
                    "an item is named by its id, a text, or by (domain, id), two texts; got a "
                    f"{type(item).__name__}"
                )

    def _index_of_unique(self, item_id: str) -> int:
        indices = self._indices_of_id.get(item_id)
        if indices is None:
            is_domain = item_id in self.domains
            way_out = ", but a domain of that name: give (domain, id)" if is_domain else _WAY_OUT
            raise UnknownItemError(f"no item {item_id!r}{way_out}")
        if len(indices) > 1:
            domains = ", ".join(self.keys[index - 1].domain for index in indices)
            raise AmbiguousItemError(
                f"item {item_id!r} is in several domains ({domains}); name it as (domain, id)"
            )
        return indices[0]

    def indices(self, items: Iterable[ItemName]) -> IntArray:
        """Returns the indices of a history; raises as `index`, and TypeError for a text."""
        if isinstance(items, str):
            raise TypeError(f"items are a list, not the text {items!r}; put it in a list")
        return np.array([self.index(item) for item in items], np.int64)

    def split_known(self, items: Iterable[ItemName]) -> tuple[IntArray, list[ItemName]]:
        """Returns the indices of known items, and the names of unknown ones."""
        known: list[int] = []
        unknown: list[ItemName] = []
        for item in items:
            try:
                known.append(self.index(item))
            except UnknownItemError:
                unknown.append(item)
        return np.array(known, np.int64), unknown

    def search(self, words: str, domain: str | None = None, limit: int = 20) -> IntArray:
        """Returns items whose title or id contains every word, by popularity, followed by items
        with similarly spelt words; if none is found, the items with most of the words."""
        inside = np.ones(self.items.height, bool)
        if domain is not None:
            inside[:] = False
            inside[self.domain_rows(self.domain_number(domain))] = True
        shares = [self._similarity(word) for word in words.lower().split()]
        share = np.min(shares, axis=0) if shares else np.ones(self.items.height)
        if not (inside & (share > 0)).any():
            share = np.mean(shares, axis=0)
        matches = inside & (share > 0)
        found = np.flatnonzero(matches) + 1
        order = np.lexsort((-self.popularity[found], -np.round(share[found - 1], 2)))
        return found[order[:limit]]

    def _similarity(self, word: str) -> NDArray[np.float64]:
        """Returns 1 for items with the word, the spelling similarity for items with a similar word,
        0 for others; (items,)."""
        found = self._searched.str.contains(word, literal=True).to_numpy().astype(float)
        for other in self._similar_words(word):
            held = self._searched.str.contains(other, literal=True).to_numpy()
            similarity = min(SequenceMatcher(None, word, other).ratio(), 0.99)
            found = np.maximum(found, similarity * held)
        return found

    def _similar_words(self, word: str) -> list[str]:
        """Returns words of titles with a similar spelling, the most similar first."""
        if len(word) < SHORTEST_MISSPELT or not word.isalnum():
            return []
        pairs = sorted({word[place : place + 2] for place in range(len(word) - 1)})
        held = [self._words.str.contains(pair, literal=True).to_numpy() for pair in pairs]
        order = np.argsort(-np.sum(held, axis=0), kind="stable")
        likely = self._words.gather(order[:MOST_COMPARED]).to_list()
        return get_close_matches(word, likely, MOST_SIMILAR, LEAST_SIMILARITY)

    def most_popular(self, domain: int) -> IntArray:
        """Returns the items of a domain by popularity."""
        rows = self.domain_rows(domain)
        bought = self.popularity[rows.start + 1 : rows.stop + 1]
        return np.argsort(-bought, kind="stable") + rows.start + 1

    def unknown(self, items: pl.DataFrame) -> pl.DataFrame:
        """Returns the rows of `items` that are new to the catalogue; raises `InvalidItemsError`."""
        mine = self.items.select(col.DOMAIN, col.ITEM_ID)
        return _checked(items, self.domains).join(mine, on=[col.DOMAIN, col.ITEM_ID], how="anti")

    def with_items(self, items: pl.DataFrame) -> Grown:
        """Returns the catalogue with new rows appended to their domains.

        Raises:
            InvalidItemsError: a row is known, repeated, or lacks id or domain.
        """
        new = _checked(items, self.domains)
        if self.unknown(items).height < new.height:
            raise InvalidItemsError("some of the items are in the catalogue already; see `unknown`")
        number = pl.int_range(1, pl.len() + 1).alias(_OLD)
        old = self.items.select(number, col.DOMAIN, col.ITEM_ID, *_texts_of(self.items.columns))
        added = new.select(pl.lit(0, pl.Int64).alias(_OLD), *_TABLE)
        parts = [
            part.filter(pl.col(col.DOMAIN) == domain)
            for domain in self.domains
            for part in (old, added)
        ]
        table = pl.concat(parts)
        previous = np.concatenate(([0], table[_OLD].to_numpy()))
        index = pl.int_range(1, table.height + 1, dtype=pl.UInt32, eager=True)
        sizes = [int((table[col.DOMAIN] == domain).sum()) for domain in self.domains]
        no_images = table[col.IMAGE].null_count() == table.height
        named = [name for name in _TABLE if name != col.IMAGE or not no_images]
        grown = Catalogue(
            items=table.select(index.alias(col.ITEM_INDEX), *named),
            domains=self.domains,
            domain_starts=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            popularity=np.where(previous > 0, self.popularity[previous], 0),
        )
        return Grown(grown, previous)

    @cached_property
    def _index_of_key(self) -> dict[tuple[str, str], int]:
        return {key: index for index, key in enumerate(self.keys, start=1)}

    @cached_property
    def _indices_of_id(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, key in enumerate(self.keys, start=1):
            found.setdefault(key.item_id, []).append(index)
        return found

    @cached_property
    def _words(self) -> pl.Series:
        """Returns the different words of all titles."""
        return (
            self.items[col.TITLE]
            .drop_nulls()
            .str.to_lowercase()
            .str.extract_all(r"\w+")
            .explode()
            .drop_nulls()
            .unique()
            .sort()
        )

    @cached_property
    def _searched(self) -> pl.Series:
        text = pl.concat_str(pl.col(col.TITLE).fill_null(""), col.ITEM_ID, separator=" ")
        return self.items.select(text.str.to_lowercase().alias("searched"))["searched"]


_OLD = "previous"
_TABLE: Sequence[str] = (col.DOMAIN, col.ITEM_ID, *TEXT_COLUMNS)
_WAY_OUT = "; leave it out, or add it (`add_items`, `serve-recs --new-items`)"


def _checked(items: pl.DataFrame, domains: tuple[str, ...]) -> pl.DataFrame:
    """Returns new items with the catalogue's columns; missing ones are null."""
    missing = {col.ITEM_ID, col.DOMAIN} - set(items.columns)
    if missing:
        raise InvalidItemsError(
            f"new items need the columns item_id and domain; {sorted(missing)} is missing of "
            f"{items.columns}"
        )
    names = items.select(pl.col(col.ITEM_ID, col.DOMAIN).cast(pl.String))
    if names.null_count().sum_horizontal().item():
        raise InvalidItemsError("a new item lacks its item_id or its domain; leave such rows out")
    strange = names.filter(~pl.col(col.DOMAIN).is_in(domains))
    if strange.height:
        raise InvalidItemsError(
            f"item {strange[col.ITEM_ID][0]!r} is of the domain {strange[col.DOMAIN][0]!r}, which "
            f"the model does not know; it knows {', '.join(domains)}: a new domain needs a retrain"
        )
    if names.is_duplicated().any():
        twice = names.filter(names.is_duplicated())[col.ITEM_ID][0]
        raise InvalidItemsError(f"item {twice!r} occurs twice in the new items; remove one")
    try:
        keys = pl.col(col.DOMAIN, col.ITEM_ID).cast(pl.String)
        return items.select(keys, *_texts_of(items.columns))
    except pl.exceptions.PolarsError as error:
        raise InvalidItemsError(f"a column of the new items has the wrong type: {error}") from error


def _texts_of(columns: Sequence[str]) -> list[pl.Expr]:
    """All of `TEXT_COLUMNS`, null where a table lacks one."""
    return [
        (pl.col(name) if name in columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in TEXT_COLUMNS.items()
    ]


ITEM_SCHEMA = pl.Schema(
    {name: kind for name, kind in RECOMMENDATION_SCHEMA.items() if name != col.USER_ID}
)
"""``domain, rank, item_id, title, score``: a list of items, rank 1 first."""


def item_rows(catalogue: Catalogue, best: Recommendations) -> pl.DataFrame:
    """Returns `ITEM_SCHEMA`, list after list, without empty places."""
    return _named(catalogue, best).select(list(ITEM_SCHEMA))


def user_rows(catalogue: Catalogue, best: Recommendations, user_ids: Sequence[str]) -> pl.DataFrame:
    """Returns `RECOMMENDATION_SCHEMA`; `user_ids` are those of the rows of `best`."""
    rows = np.repeat(np.arange(len(best.items)), (best.items > 0).sum(axis=1))
    names = pl.Series(col.USER_ID, user_ids, pl.String).gather(rows)
    return _named(catalogue, best).with_columns(names).select(list(RECOMMENDATION_SCHEMA))


def _named(catalogue: Catalogue, best: Recommendations) -> pl.DataFrame:
    is_item = best.items > 0
    ranks = np.arange(1, best.items.shape[1] + 1, dtype=np.int32)
    names = catalogue.items.select(col.DOMAIN, col.ITEM_ID, col.TITLE)
    return names[best.items[is_item] - 1].with_columns(
        pl.Series(col.RANK, np.broadcast_to(ranks, is_item.shape)[is_item]),
        pl.Series(col.SCORE, best.scores[is_item], pl.Float32),
    )
