"""Reads what a dump says of its items: one row an item, text as the shop wrote it, cut."""

from collections.abc import Iterator

import polars as pl

from artifacts import columns as col
from tasks.dump.batch import ROW, Batch
from tasks.dump.dump_config import ITEM_KEY, DumpConfig, Source
from tasks.dump.forms import ITEM_NAMES, open_items
from tasks.dump.normalize import item_column
from tasks.dump.rows import SOURCE, Quarantine, parted, renamed

ITEM_SCHEMA: dict[str, pl.DataType] = {
    col.ITEM_ID: pl.String(),
    col.DOMAIN: pl.String(),
    col.TITLE: pl.String(),
    col.BRAND: pl.String(),
    col.CATEGORIES: pl.List(pl.String()),
    col.PRICE: pl.Float64(),
    col.DESCRIPTION: pl.String(),
}

DESCRIBED_TWICE = "item described more than once"


def read_items(
    config: DumpConfig, quarantine: Quarantine, only: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Returns the described items (`ITEM_SCHEMA`), the first description of each.

    Args:
        config: the dump.
        quarantine: where unusable rows go.
        only: ``domain, item_id`` to which descriptions are limited while reading.

    Raises:
        UnreadableDump.
    """
    parts = [
        part
        for source in config.files
        if source.items is not None
        for part in _usable(source, source.items, config, quarantine, only)
    ]
    schema = {**ITEM_SCHEMA, ROW: pl.Int64(), SOURCE: pl.String()}
    items = pl.concat([pl.DataFrame(schema=schema), *parts])
    items, twice = parted(items, {DESCRIBED_TWICE: ~pl.struct(ITEM_KEY).is_first_distinct()})
    for (source,), rows in twice.group_by(SOURCE, maintain_order=True):
        quarantine.add(str(source), rows)
    return items.select(list(ITEM_SCHEMA))


def item_batches(source: Source, path: str) -> Iterator[Batch]:
    """Gives the rows of one file in our form (`ITEM_SCHEMA` and the row's place), unjudged.

    Raises:
        UnreadableDump.
    """
    table = open_items(path, source.form)
    names = {**ITEM_NAMES[source.form], **source.columns}
    needed = ITEM_KEY if source.domain is None else (col.ITEM_ID,)
    for batch in table.batches(renamed(path, table, names, needed, ITEM_SCHEMA)):
        rows = batch.rows
        if source.domain is not None:
            rows = rows.with_columns(pl.lit(source.domain).alias(col.DOMAIN))
        schema = rows.schema
        columns = [item_column(schema, name, dtype) for name, dtype in ITEM_SCHEMA.items()]
        yield Batch(rows.select(*columns, pl.col(ROW)), batch.broken)


def _usable(
    source: Source,
    path: str,
    config: DumpConfig,
    quarantine: Quarantine,
    only: pl.DataFrame | None,
) -> Iterator[pl.DataFrame]:
    name = "items" if source.domain is None else f"items of {source.domain}"
    rules = {
        "no item_id": pl.col(col.ITEM_ID).is_null(),
        "no domain": pl.col(col.DOMAIN).is_null(),
    }
    for batch in item_batches(source, path):
        usable, bad = parted(batch.rows, rules)
        quarantine.add(name, pl.concat([batch.broken, bad], how="diagonal").sort(ROW))
        if config.domains is not None:
            usable = usable.filter(pl.col(col.DOMAIN).is_in(list(config.domains)))
        if only is not None:
            usable = usable.join(only, on=ITEM_KEY, how="semi")
        yield usable.with_columns(pl.lit(name).alias(SOURCE))
