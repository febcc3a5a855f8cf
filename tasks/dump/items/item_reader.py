"""Reading of item files: one row per item, with raw, truncated texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.user_error import UserError
from prompts.render import one_line
from tasks.dump.dump_config import ITEM_KEY, DumpConfig, Mode, Source
from tasks.dump.fields.field import FieldReader, Fields
from tasks.dump.fields.identifiers import IdField
from tasks.dump.fields.images import ImageField
from tasks.dump.fields.item_texts import ListField, TextField
from tasks.dump.fields.prices import PriceField
from tasks.dump.naming.dump_formats import ITEM_NAMES, open_items
from tasks.dump.reading import Reading, Rows, SourceKind, SourceReader, usable_rows
from tasks.dump.rows import SOURCE, Quarantine, parted

ITEM_SCHEMA: dict[str, pl.DataType] = {
    col.ITEM_ID: pl.String(),
    col.DOMAIN: pl.String(),
    col.TITLE: pl.String(),
    col.BRAND: pl.String(),
    col.CATEGORIES: pl.List(pl.String()),
    col.PRICE: pl.Float64(),
    col.DESCRIPTION: pl.String(),
    col.IMAGE: pl.String(),
}

DESCRIBED_TWICE = "item described more than once"
NOT_ASKED_FOR = "domain not selected"
NOT_BOUGHT = "item not bought"

_FILE, _ROW = "file", "row"


@dataclass(frozen=True)
class ReadItems:
    """Result of reading: items (`ITEM_SCHEMA`, first row of each), keys ``domain, item_id`` of all
    items in the files, and notes."""

    items: pl.DataFrame
    described: pl.DataFrame
    told: Reading


def read_items(
    config: DumpConfig, quarantine: Quarantine, only: pl.DataFrame | None = None
) -> ReadItems:
    """Returns the items with accounts and notes of the files.

    Args:
        config: the dump.
        quarantine: receives unusable rows.
        only: ``domain, item_id`` of the items to read.

    Raises:
        UnreadableDumpError.
    """
    told = Reading()
    parts = [
        pl.DataFrame(
            schema={**ITEM_SCHEMA, _ROW: pl.Int64(), SOURCE: pl.String(), _FILE: pl.Int64()}
        )
    ]
    keys = [pl.DataFrame(schema={name: ITEM_SCHEMA[name] for name in ITEM_KEY})]
    opened = (item_reader(source).exports() for source in config.files if source.items is not None)
    for reader in chain.from_iterable(opened):
        first = len(told.accounts)
        found, of_source = reader.read(item_fields(), _ItemPass(reader, config, only, first))
        may_be_empty = config.mode is Mode.APPEND  # The earlier items are there.
        reader.refuse_nothing_usable(of_source.accounts, may_be_empty=may_be_empty)
        quarantine.absorb(found.quarantine)
        told.add(of_source)
        parts += found.parts
        keys += found.keys
    rows = pl.concat(parts)
    items, twice = parted(rows, {DESCRIBED_TWICE: ~pl.struct(ITEM_KEY).is_first_distinct()})
    told.notes += _told_of_disagreement(rows, twice)
    for (source,), rows in twice.group_by(SOURCE, maintain_order=True):
        quarantine.add(str(source), rows)
    for place, count in twice[_FILE].value_counts().iter_rows():
        told.accounts[place].kept -= count
        told.accounts[place].set_aside[DESCRIBED_TWICE] += count
    return ReadItems(items.select(list(ITEM_SCHEMA)), pl.concat(keys).unique(), told)


def _told_of_disagreement(rows: pl.DataFrame, twice: pl.DataFrame) -> list[str]:
    """Returns a note about items whose rows differ, of which the first is used."""
    texts = (col.TITLE, col.BRAND, col.PRICE, col.DESCRIPTION)
    several = rows.join(twice.select(ITEM_KEY).unique(), on=ITEM_KEY, how="semi")
    found = several.select(*ITEM_KEY, *texts).unique(maintain_order=True)
    differing = found.filter(pl.struct(ITEM_KEY).is_duplicated())
    if differing.is_empty():
        return []
    count, name = differing.select(ITEM_KEY).n_unique(), differing[col.ITEM_ID][0]
    return [
        f"{count:,} items, such as {name!r}, have rows that differ in {' or '.join(texts)}: the "
        "first row of each is used"
    ]


def item_fields() -> dict[str, FieldReader]:
    """Returns the field readers of item columns by standard name."""
    return {
        **{name: IdField(name) for name in ITEM_KEY},
        **{name: TextField(name) for name in (col.TITLE, col.BRAND, col.DESCRIPTION)},
        col.CATEGORIES: ListField(col.CATEGORIES),
        col.PRICE: PriceField(),
        col.IMAGE: ImageField(),
    }


def item_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns rows with all columns of `ITEM_SCHEMA`, null if missing."""
    return rows.with_columns(
        pl.lit(None, dtype).alias(name) if name not in rows.columns else pl.col(name).cast(dtype)
        for name, dtype in ITEM_SCHEMA.items()
    )


@dataclass
class _FoundItems:
    quarantine: Quarantine = field(default_factory=Quarantine)
    parts: list[pl.DataFrame] = field(default_factory=list)
    keys: list[pl.DataFrame] = field(default_factory=list)


class _ItemPass:
    """Consumes all batches of a source; ``first`` is the index of its first account."""

    def __init__(
        self, reader: SourceReader, config: DumpConfig, only: pl.DataFrame | None, first: int
    ) -> None:
        self._reader = reader
        self._domains = config.domains
        self._only = only
        self._first = first

    def __call__(self, batches: Iterator[Rows], fields: Fields) -> _FoundItems:
        found, places = _FoundItems(), {}
        for batch in batches:
            place = places.setdefault(id(batch.account), self._first + len(places))
            name = self._reader.name_of(batch.account)
            whole = Rows(batch.account, item_rows(batch.rows), batch.broken)
            usable = usable_rows(whole, _RULES, found.quarantine, name)
            usable = self._asked_for(usable, batch)
            found.keys.append(usable.select(ITEM_KEY))
            if self._only is not None:
                bought = usable.join(self._only, on=ITEM_KEY, how="semi", maintain_order="left")
                batch.account.drop(NOT_BOUGHT, usable.height - bought.height)
                usable = bought
            found.parts.append(
                usable.select(
                    *ITEM_SCHEMA,
                    _ROW,
                    pl.lit(name).alias(SOURCE),
                    pl.lit(place, pl.Int64).alias(_FILE),
                )
            )
        return found

    def _asked_for(self, usable: pl.DataFrame, batch: Rows) -> pl.DataFrame:
        if self._domains is None:
            return usable
        kept = usable.filter(pl.col(col.DOMAIN).is_in(list(self._domains)))
        batch.account.drop(NOT_ASKED_FOR, usable.height - kept.height)
        return kept


_RULES: Mapping[str, pl.Expr] = {
    "no item_id": pl.col(col.ITEM_ID).is_null(),
    "no domain": pl.col(col.DOMAIN).is_null(),
}


def item_reader(source: Source) -> SourceReader:
    """Opens the files of a source and reads their headers; raises `UnreadableDumpError`."""
    assert source.items is not None
    kind = SourceKind(
        holds="items",
        open_table=partial(open_items, form=source.form),
        names={**ITEM_NAMES[source.form], **source.columns},
        needed=ITEM_KEY if source.domain is None else (col.ITEM_ID,),
        wanted=tuple(ITEM_SCHEMA),
    )
    return SourceReader(source, source.items, kind)


TITLE_CHARACTERS = 300

_UNCLEAN = r"[&<\p{C}\P{age:14.0}]|[\p{Z}--\x20]|\x20\x20|^\x20|\x20$"
"""Pattern of short titles that `one_line` may change. Python 3.11 has Unicode 14, Polars newer
tables, so later characters are included."""


class TooFewDomainsError(UserError, ValueError):
    """The dump has events in fewer than two domains after filtering."""


def catalogue_of(bought: pl.DataFrame, described: pl.DataFrame) -> pl.DataFrame:
    """Returns all bought or described items with their metadata.

    Items are contiguous by domain, from index 1 (DESIGN, decision 5).

    Args:
        bought: ``domain, item_id`` of items with an event.
        described: rows of `tasks.dump.items.item_reader.ITEM_SCHEMA`.

    Raises:
        TooFewDomainsError.
    """
    _require_two_domains(bought)
    items = (
        pl.concat([bought, described.select(ITEM_KEY)])
        .unique()
        .join(described, on=ITEM_KEY, how="left")
        .sort(ITEM_KEY)
        .with_row_index(col.ITEM_INDEX, offset=1)
    )
    if col.IMAGE in items.columns and items[col.IMAGE].null_count() == items.height:
        items = items.drop(col.IMAGE)
    return items.with_columns(clean_titles(items[col.TITLE]))


def clean_titles(titles: pl.Series) -> pl.Series:
    """Returns titles cleaned by `one_line`, which is applied to affected titles only."""
    unclean = titles.str.contains(_UNCLEAN) | (titles.str.len_chars() > TITLE_CHARACTERS)
    places = unclean.fill_null(value=False).arg_true()
    cleaned = [one_line(title, TITLE_CHARACTERS) or None for title in titles.gather(places)]
    return titles.scatter(places, pl.Series(cleaned, dtype=pl.String)).alias(col.TITLE)


def index_of(keys: pl.DataFrame, items: pl.DataFrame) -> NDArray[np.int32]:
    """Returns the item index of every row of ``domain, item_id``; 0 for unknown items."""
    found = keys.join(
        items.select(*ITEM_KEY, col.ITEM_INDEX), ITEM_KEY, "left", maintain_order="left"
    )
    return found[col.ITEM_INDEX].fill_null(0).cast(pl.Int32).to_numpy()


def has_text() -> pl.Expr:
    """Returns whether an item has any text."""
    return pl.any_horizontal(
        pl.col(col.TITLE, col.BRAND, col.DESCRIPTION).is_not_null(),
        pl.col(col.CATEGORIES).list.len() > 0,
    ).fill_null(value=False)


def _require_two_domains(bought: pl.DataFrame) -> None:
    domains = sorted(bought[col.DOMAIN].unique())
    if len(domains) < 2:
        raise TooFewDomainsError(
            f"the dump has events in {len(domains)} domain(s) ({', '.join(domains) or 'none'}) "
            "after filtering; bridging domains needs at least two in the column 'domain'. Loosen "
            "--domain, --where, --since, --until, --user-core or --item-core, or name the column "
            "that holds them: --column NAME_IN_FILE=domain"
        )
