"""Reads a file of items that are newer than the model, in any form that a dump may have."""

import logging

import polars as pl

from artifacts import columns as col
from tasks.catalogue import InvalidItems
from tasks.dump import Source
from tasks.dump_forms import Form, open_items
from tasks.dump_items import ITEM_SCHEMA, item_batches

logger = logging.getLogger("llm4cdsr")


def read_new_items(path: str, domains: tuple[str, ...]) -> pl.DataFrame:
    """Returns rows fit for `Recommender.add_items`; the log counts those left out, by reason.

    Raises:
        UnreadableDump: the file is missing or damaged.
        InvalidItems: it has no ``item_id`` or no ``domain``.
    """
    found = open_items(path, Form.TABLE).names
    if missing := {col.ITEM_ID, col.DOMAIN} - set(found):
        raise InvalidItems(f"{path} lacks the columns {sorted(missing)}; it has {list(found)}")
    batches = list(item_batches(Source(interactions="", items=path), path))
    rows = pl.concat([batch.rows.select(list(ITEM_SCHEMA)) for batch in batches])
    named = rows.drop_nulls([col.ITEM_ID, col.DOMAIN])
    inside = named.filter(pl.col(col.DOMAIN).is_in(domains))
    kept = inside.unique([col.DOMAIN, col.ITEM_ID], keep="last", maintain_order=True)
    for reason, count in (
        ("that cannot be parsed", sum(batch.broken.height for batch in batches)),
        ("without an id or a domain", rows.height - named.height),
        ("of a domain that the model does not know", named.height - inside.height),
        ("named twice, of which the last counts", inside.height - kept.height),
    ):
        if count:
            logger.warning("%s: %d rows left out: %s", path, count, reason)
    return kept
