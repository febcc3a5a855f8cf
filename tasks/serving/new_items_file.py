"""Reads a file of items that are newer than the model, in any form that a dump may have."""

import logging

import polars as pl

from artifacts import columns as col
from tasks.dump.dump_config import ITEM_KEY
from tasks.dump.forms import Form, open_items
from tasks.dump.items import ITEM_SCHEMA
from tasks.dump.normalize import item_column
from tasks.dump.rows import renamed

logger = logging.getLogger("llm4cdsr")


def read_new_items(path: str, domains: tuple[str, ...]) -> pl.DataFrame:
    """Returns rows fit for `Recommender.add_items`; the log counts those left out, by reason.

    Raises:
        UnreadableDump: the file is missing or damaged, or has no ``item_id`` or no ``domain``.
    """
    table = open_items(path, Form.TABLE)
    parts, broken = [pl.DataFrame(schema=ITEM_SCHEMA)], 0
    for batch in table.batches(renamed(path, table, {}, ITEM_KEY, ITEM_SCHEMA)):
        schema = batch.rows.schema
        parts.append(
            batch.rows.select(
                item_column(schema, name, dtype) for name, dtype in ITEM_SCHEMA.items()
            )
        )
        broken += batch.broken.height
    rows = pl.concat(parts)
    named = rows.drop_nulls([col.ITEM_ID, col.DOMAIN])
    inside = named.filter(pl.col(col.DOMAIN).is_in(domains))
    kept = inside.unique([col.DOMAIN, col.ITEM_ID], keep="last", maintain_order=True)
    for reason, count in (
        ("that cannot be read", broken),
        ("without an id or a domain", rows.height - named.height),
        ("of a domain that the model does not know", named.height - inside.height),
        ("named twice, of which the last counts", inside.height - kept.height),
    ):
        if count:
            logger.warning("%s: %d rows left out: %s", path, count, reason)
    return kept
