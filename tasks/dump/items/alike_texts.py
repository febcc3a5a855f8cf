"""Notes about texts that do not distinguish the items of a domain."""

import polars as pl

from artifacts import columns as col
from tasks.dump.items.item_reader import has_text

FEWEST = 10
"""Minimum items of a domain for a note."""

MOST_ALIKE = 10
"""Items per different text from which a note is made."""

ID_SHARE = 0.9

_TEXTS = (col.TITLE, col.BRAND, col.CATEGORIES, col.DESCRIPTION)
_SHOWN = 60


def texts_alike(items: pl.DataFrame) -> list[str]:
    """Returns a note for each domain whose texts are few, or are the ids of its items."""
    said = []
    for (domain,), part in items.filter(has_text()).group_by(col.DOMAIN, maintain_order=True):
        if part.height < FEWEST:
            continue
        texts = part.select(_TEXTS).unique()
        if texts.height * MOST_ALIKE <= part.height:
            example = next((text for text in part[col.TITLE] if text), "")
            said.append(
                f"{domain}: {part.height:,} items have {texts.height:,} different text"
                f"{'s' * (texts.height > 1)}, such as {example[:_SHOWN]!r}; items of equal text "
                "cannot be told apart by it: are the titles in another column?"
            )
        elif (part[col.TITLE] == part[col.ITEM_ID]).sum() >= ID_SHARE * part.height:
            said.append(
                f"{domain}: the titles are the ids of the items, such as "
                f"{part[col.TITLE][0]!r}, from which no model knows what they are: are the titles "
                "in another column?"
            )
    return said
