"""Check of the overlap between item ids of events and of item files.

Almost no overlap shows that ids or domains are written differently; such a dump is refused, with
the change that would make them match.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl

from artifacts import columns as col
from tasks.dump.dump_config import ITEM_KEY
from tasks.dump.sources.files import UnreadableDumpError

NEXT_TO_NONE = 0.02
"""Maximum share of the smaller side that counts as no overlap."""

FEWEST = 3
"""Minimum items of the smaller side for the check."""

WORTH_TELLING = 0.1
"""Share of bought items without metadata that is reported."""

_SHOWN = 3
_LONGEST = 60
_BETWEEN = r"[\s,;|]+"
_CLICKED = r"-[01]$"

Change = Callable[[pl.Expr], pl.Expr]

ID_CHANGES: Mapping[str, Change] = {
    "-0 or -1 at the end, which mark impressions without and with a click: rows of -0 are no "
    "events": lambda ids: ids.str.replace(_CLICKED, ""),
    "'.0' at the end": lambda ids: ids.str.replace(r"\.0+$", ""),
    "leading zeros": lambda ids: ids.str.replace(r"^0+(.)", "$1"),
    "capitals": lambda ids: ids.str.to_lowercase(),
    "the signs of URLs (%20)": lambda ids: _each(ids, unquote),
    "the signs of HTML (&amp;)": lambda ids: _each(ids, unescape),
    "blanks": lambda ids: ids.str.replace_all(r"\s", ""),
    "hyphens, braces and capitals": lambda ids: ids.str.replace_all(
        r"[{}-]", ""
    ).str.to_lowercase(),
    "Unicode's composed and decomposed forms (NFC)": lambda ids: ids.str.normalize("NFC"),
    "Unicode's compatible forms (NFKC)": lambda ids: ids.str.normalize("NFKC"),
    "quotation marks": lambda ids: ids.str.replace_all("[\"'`]", ""),
    "all before the last '/', ':', '_' or '|'": lambda ids: ids.str.replace(r"^.*[/:_|]", ""),
    "all after the last '.', ':', '_' or '-'": lambda ids: ids.str.replace(r"[.:_-][^.:_-]*$", ""),
    "all that is no letter or digit, zeros in front and capitals": lambda ids: (
        ids.str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace(r"\.0+$", "")
        .str.replace_all(r"[^\p{L}\p{N}]", "")
        .str.replace(r"^0+(.)", "$1")
    ),
}
"""Possible differences between two spellings of an id."""

_DOMAIN: Change = lambda names: (  # noqa: E731 - a change like the others
    names.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
)


class ItemsDoNotMeetError(UnreadableDumpError):
    """Almost no item of the events is in the item files, or the reverse."""


@dataclass(frozen=True)
class ItemMatch:
    """Numbers of bought items, described items, and both."""

    bought: int
    described: int
    met: int
    notes: tuple[str, ...] = ()


def matched(bought: pl.DataFrame, described: pl.DataFrame) -> ItemMatch:
    """Returns the overlap of events and item files; raises `ItemsDoNotMeetError`.

    Args:
        bought: ``domain, item_id`` of all items with an event.
        described: the same of all items in item files; empty without such files.
    """
    met = bought.join(described, on=ITEM_KEY, how="semi").height
    if described.is_empty():
        return ItemMatch(bought.height, 0, met)
    for domain in bought[col.DOMAIN].unique().sort():
        _require_meeting(domain, bought, described)
    lacking = bought.height - met
    alone = bought.join(described, on=ITEM_KEY, how="anti")
    unmet = described.join(bought, on=ITEM_KEY, how="anti")
    notes = _in_other_domains(alone, unmet)
    if lacking > WORTH_TELLING * bought.height:
        notes.append(
            f"{lacking:,} of {bought.height:,} bought items have no description, and "
            f"{unmet.height:,} of {described.height:,} described ones were never bought"
            + _way(alone, unmet, least=max(FEWEST, lacking // 10))
        )
    return ItemMatch(bought.height, described.height, met, tuple(notes))


def _in_other_domains(alone: pl.DataFrame, unmet: pl.DataFrame) -> list[str]:
    """Returns a note on items of the events that the item files have in another domain, if these
    are at least half of the items without metadata: ids that are unique in their domain only may
    be equal by chance.

    Args:
        alone: ``domain, item_id`` of items of the events without metadata.
        unmet: the same of described items without an event.
    """
    moved = alone.join(unmet, on=col.ITEM_ID, how="inner", suffix="_now").sort(pl.all())
    count = moved.select(ITEM_KEY).unique().height
    if count < max(FEWEST, alone.height / 2):
        return []
    item, now, then = moved.select(col.ITEM_ID, f"{col.DOMAIN}_now", col.DOMAIN).row(0)
    return [
        f"{count:,} items have another domain in the item files than in the events, such as "
        f"{item!r} ({now} and {then}): each is read as two items, one without text and one without "
        "events; use one domain in both files"
    ]


def _require_meeting(domain: str, bought: pl.DataFrame, described: pl.DataFrame) -> None:
    mine = bought.filter(pl.col(col.DOMAIN) == domain)
    theirs = described.filter(pl.col(col.DOMAIN) == domain)
    others = described.join(bought, on=ITEM_KEY, how="anti")
    if theirs.is_empty():
        strange = others.join(bought.select(col.DOMAIN).unique(), on=col.DOMAIN, how="anti")
        if not strange.is_empty() and mine.height >= FEWEST:
            raise ItemsDoNotMeetError(_no_such_domain(domain, mine, strange))
        _require_one_spelling(domain, mine, described)
        return
    smaller = min(mine.height, theirs.height)
    met = mine.join(theirs, on=ITEM_KEY, how="semi").height
    if smaller >= FEWEST and met <= NEXT_TO_NONE * smaller:
        _refuse_several_in_one(mine, described)
        raise ItemsDoNotMeetError(
            f"the items of events and item files do not match: in the domain {domain} {met:,} of "
            f"{mine.height:,} bought and {theirs.height:,} described items match. Bought are "
            f"{_ids(mine)}; described are {_ids(theirs)}"
            + (_way(mine, others, least=1) or "; use the same item_id in both files")
        )


def _refuse_several_in_one(mine: pl.DataFrame, described: pl.DataFrame) -> None:
    """Raises if ids of the events are lists of described ids."""
    ids = mine.filter(pl.col(col.ITEM_ID).str.contains(_BETWEEN))[col.ITEM_ID].sort()
    parts = (
        ids.str.replace_all(_BETWEEN, " ")
        .str.split(" ")
        .list.eval(pl.element().str.replace(_CLICKED, "").is_in(described[col.ITEM_ID].implode()))
    )
    several = ids.filter(parts.list.sum() > 1)
    if len(several) > mine.height / 2:
        raise ItemsDoNotMeetError(
            f"an item_id of the events has several items, such as {several[0][:_LONGEST]!r}: "
            "write one row per item (Polars: "
            "rows.with_columns(pl.col(NAME).str.split(' ')).explode(NAME))"
        )


def _require_one_spelling(domain: str, mine: pl.DataFrame, described: pl.DataFrame) -> None:
    """Raises if the events have two spellings of a domain, of which one is in the item files."""
    names = described[col.DOMAIN].unique().sort()
    alike = names.filter(_plain_names(names) == _plain_names(pl.Series([domain]))[0])
    for other in alike:
        theirs = described.filter(pl.col(col.DOMAIN) == other)
        met = mine.join(theirs, on=col.ITEM_ID, how="semi").height
        if met > NEXT_TO_NONE * mine.height:
            raise ItemsDoNotMeetError(
                f"the events write one domain as {domain!r} and as {other!r}, and no item of "
                f"{domain!r} is described: {met:,} of {mine.height:,} are as {other!r}, such as "
                f"{_ids(mine)}. Use one spelling"
            )


def _no_such_domain(domain: str, mine: pl.DataFrame, strange: pl.DataFrame) -> str:
    names = strange[col.DOMAIN].unique().sort().to_list()
    said = (
        f"no item of the domain {domain!r} is described, and no item of "
        f"{', '.join(map(repr, names[:_SHOWN]))} was bought. Bought are {_ids(mine)}; described "
        f"are {_ids(strange)}"
    )
    ids = mine.select(col.ITEM_ID).unique()
    met = ids.join(strange.select(col.ITEM_ID).unique(), on=col.ITEM_ID, how="semi").height
    alike = _plain_names(pl.Series([domain]))[0]
    same = [name for name in names if _plain_names(pl.Series([name]))[0] == alike]
    if same:
        return f"{said}. They would match if {same[0]!r} were {domain!r}: use one spelling"
    if met:
        return (
            f"{said}. {met:,} of {ids.height:,} would match by item_id alone: use the same domain "
            "in both files"
        )
    return f"{said}; use the same domain and item_id in both files"


class LikelyChange(NamedTuple):
    """A change of ids: how many would then match, what it removes, and one pair of ids."""

    matches: int
    what: str
    pair: tuple[str, str]


def likely_change(mine: pl.DataFrame, theirs: pl.DataFrame) -> LikelyChange:
    """Returns the change that makes most ids of ``mine`` match; none if no change does.

    Args:
        mine, theirs: ``domain, item_id``.
    """
    best = LikelyChange(0, "", ("", ""))
    for what, change in ID_CHANGES.items():
        one, other = _changed(mine, change), _changed(theirs, change)
        met = one.join(other, on=[col.DOMAIN, "changed"], how="inner")
        count = met.select(col.DOMAIN, col.ITEM_ID).unique().height
        if count > best.matches:
            pair = met.select(col.ITEM_ID, f"{col.ITEM_ID}_right").sort(pl.all()).row(0)
            best = LikelyChange(count, what, pair)
    return best


def _way(mine: pl.DataFrame, theirs: pl.DataFrame, least: int) -> str:
    """Returns the change that would make items match, as the end of a sentence; empty if none
    does."""
    best = likely_change(mine, theirs)
    if best.matches < least:
        return ""
    one, other = best.pair
    return (
        f". {best.matches:,} of {mine.height:,} would match without {best.what} ({one!r} and "
        f"{other!r}): use the same item_id in both files"
    )


def _each(ids: pl.Expr, change: Callable[[str], str]) -> pl.Expr:
    return ids.map_elements(change, return_dtype=pl.String)


def _changed(keys: pl.DataFrame, change: Change) -> pl.DataFrame:
    return keys.select(*ITEM_KEY, change(pl.col(col.ITEM_ID)).alias("changed")).filter(
        pl.col("changed") != ""
    )


def _plain_names(names: pl.Series) -> pl.Series:
    return names.alias("name").to_frame().select(_DOMAIN(pl.col("name"))).to_series()


def _ids(keys: pl.DataFrame) -> str:
    return ", ".join(map(repr, keys[col.ITEM_ID].unique().sort().head(_SHOWN)))
