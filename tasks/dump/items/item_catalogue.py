"""The catalogue of a dataset: all recommendable items, indexed by domain."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.user_error import UserError
from prompts.render import one_line
from tasks.dump.dump_config import ITEM_KEY

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
            "--domain, --since, --until, --user-core or --item-core, or name the column that holds "
            "them: --column THEIRS=domain"
        )
