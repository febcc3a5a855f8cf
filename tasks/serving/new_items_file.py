"""Reading of a file of new items, in all formats of input files."""

import logging
from collections.abc import Iterator
from functools import partial

import polars as pl

from artifacts import columns as col
from tasks.dump.dump_config import ITEM_KEY, Source
from tasks.dump.fields.field import Fields
from tasks.dump.items.item_reader import ITEM_SCHEMA, item_fields, item_rows
from tasks.dump.naming.dump_formats import DumpFormat, open_items
from tasks.dump.reading import Rows, SourceKind, SourceReader

logger = logging.getLogger("llm4cdsr")


def read_new_items(path: str, domains: tuple[str, ...]) -> pl.DataFrame:
    """Returns rows for `Recommender.add_items`; the log counts skipped ones by reason.

    Raises:
        UnreadableDumpError: the file is missing or damaged, or has no ``item_id`` or no ``domain``.
    """
    kind = SourceKind(
        "items", partial(open_items, form=DumpFormat.TABLE), {}, ITEM_KEY, tuple(ITEM_SCHEMA)
    )
    reader = SourceReader(Source(interactions=path, items=path), path, kind)
    (rows, broken), told = reader.read(item_fields(), _taken)
    named = rows.drop_nulls([col.ITEM_ID, col.DOMAIN])
    inside = named.filter(pl.col(col.DOMAIN).is_in(domains))
    kept = inside.unique([col.DOMAIN, col.ITEM_ID], keep="last", maintain_order=True)
    for note in told.notes:
        logger.warning("%s", note)
    for reason, count in (
        ("that cannot be read", broken),
        ("without an id or a domain", rows.height - named.height),
        ("of a domain that the model does not have", named.height - inside.height),
        ("named twice: the last row is used", inside.height - kept.height),
    ):
        if count:
            logger.warning("%s: %d rows left out: %s", path, count, reason)
    return kept


def _taken(batches: Iterator[Rows], fields: Fields) -> tuple[pl.DataFrame, int]:
    """Returns all rows (`ITEM_SCHEMA`), and the number of unreadable ones."""
    parts, broken = [pl.DataFrame(schema=ITEM_SCHEMA)], 0
    for batch in batches:
        parts.append(item_rows(batch.rows).select(list(ITEM_SCHEMA)))
        broken += batch.broken.height
    return pl.concat(parts), broken
