"""Reads a file of items that are newer than the model, in any form that a dump may have."""

import logging

import polars as pl

from artifacts import columns as col
from tasks.catalogue import TEXT_COLUMNS, InvalidItems
from tasks.dump_columns import item_column
from tasks.dump_files import scan_table

logger = logging.getLogger("llm4cdsr")


def read_new_items(path: str, domains: tuple[str, ...]) -> pl.DataFrame:
    """Returns rows fit for `Recommender.add_items`; the log counts those left out, by reason.

    Raises:
        UnreadableDump: the file is missing or damaged.
        InvalidItems: it has no ``item_id`` or no ``domain``.
    """
    table = scan_table(path)
    schema = table.collect_schema()
    if missing := {col.ITEM_ID, col.DOMAIN} - set(schema.names()):
        raise InvalidItems(f"{path} lacks the columns {sorted(missing)}; it has {schema.names()}")
    kinds = {col.ITEM_ID: pl.String(), col.DOMAIN: pl.String()} | {
        name: kind() if isinstance(kind, type) else kind for name, kind in TEXT_COLUMNS.items()
    }
    rows = table.select(item_column(schema, name, kind) for name, kind in kinds.items()).collect()
    named = rows.drop_nulls([col.ITEM_ID, col.DOMAIN])
    inside = named.filter(pl.col(col.DOMAIN).is_in(domains))
    kept = inside.unique([col.DOMAIN, col.ITEM_ID], keep="last", maintain_order=True)
    for reason, count in (
        ("without an id or a domain", rows.height - named.height),
        ("of a domain that the model does not know", named.height - inside.height),
        ("named twice, of which the last counts", inside.height - kept.height),
    ):
        if count:
            logger.warning("%s: %d rows left out: %s", path, count, reason)
    return kept
